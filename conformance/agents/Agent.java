// 10 requests with java.net.http.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class Agent {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int number = 0; number < 10; number++) {
            var request = HttpRequest.newBuilder(URI.create(System.getenv("AGENT_URL") + "/" + number))
                    .header("Authorization", "Bearer " + System.getenv("AGENT_TOKEN"))
                    .build();
            var response = client.send(request, BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                throw new AssertionError(response.statusCode() + ": " + response.body());
            }
        }
        System.out.println("java.net.http, Java " + Runtime.version().feature() + " (" + System.getProperty("java.version") + ")");
    }
}
