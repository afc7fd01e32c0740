// 10 requests with net/http.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
)

func main() {
	for number := 0; number < 10; number++ {
		request, err := http.NewRequest("GET", fmt.Sprintf("%s/%d", os.Getenv("AGENT_URL"), number), nil)
		if err != nil {
			log.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+os.Getenv("AGENT_TOKEN"))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 {
			log.Fatal(response.Status, string(body), err)
		}
	}
	fmt.Println("net/http,", runtime.Version())
}
