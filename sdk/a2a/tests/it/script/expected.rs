//! What the official Rust agent answers, in a few words. `#n` is the n-th id that the script has
//! seen.

/// By call, in the order of the script.
pub(crate) const EXPECTED: &[(&str, &str)] = &[
    (
        "`send_message`",
        "task COMPLETED, artifact \"ahoy\", history of 1",
    ),
    (
        "`send_message`, parts of each kind",
        "task COMPLETED, artifact \"Ω & \\\"quotes\\\"\\n\", history of 1",
    ),
    (
        "`send_message`, A2A-Version",
        "task COMPLETED, artifact \"1.0\", history of 1",
    ),
    (
        "`send_message`, A2A-Extensions",
        "task COMPLETED, artifact \"https://example.com/some-extension\", history of 1",
    ),
    (
        "`send_streaming_message`, to its end",
        "task WORKING \"1\", history of 1; WORKING \"2\"; WORKING \"3\"; artifact \"one \"; artifact \"two\"; COMPLETED",
    ),
    (
        "`send_message`, returns at once",
        "task WORKING \"1\", history of 1",
    ),
    ("`cancel_task`, running", "task CANCELED, history of 1"),
    (
        "`subscribe_to_task`, running, until cancelled",
        "task WORKING \"1\", history of 1; CANCELED",
    ),
    (
        "`get_task`",
        "task COMPLETED, artifact \"ahoy\", history of 1",
    ),
    (
        "`get_task`, without history",
        "task COMPLETED, artifact \"ahoy\"",
    ),
    (
        "`list_tasks`, of the context",
        "6 of 6: COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPLETED, CANCELED",
    ),
    ("`list_tasks`, cancelled ones", "1 of 1: CANCELED"),
    ("`list_tasks`, two of them", "2 of 6: COMPLETED, COMPLETED"),
    ("`list_tasks`, the next two", "2 of 6: COMPLETED, COMPLETED"),
    (
        "`create_push_config`, first",
        "first to https://example.com/first",
    ),
    (
        "`get_push_config`, first",
        "first to https://example.com/first",
    ),
    (
        "`create_push_config`, second",
        "second, 100%? to https://example.com/second",
    ),
    (
        "`get_push_config`, second",
        "second, 100%? to https://example.com/second",
    ),
    (
        "`list_push_configs`, two",
        "first to https://example.com/first, second, 100%? to https://example.com/second",
    ),
    ("`delete_push_config`", "done"),
    (
        "`list_push_configs`, one",
        "second, 100%? to https://example.com/second",
    ),
    (
        "`get_push_config`, deleted",
        "-32001 push notification config not found: first",
    ),
    (
        "`get_extended_agent_card`",
        "card of peer, skills echo, for-those-who-are-known",
    ),
    ("`get_task`, unknown", "-32001 task not found: #13"),
    ("`cancel_task`, unknown", "-32001 task not found: #13"),
    (
        "`cancel_task`, finished",
        "-32002 task cannot be canceled: #2",
    ),
    ("`cancel_task`, cancelled", "task CANCELED, history of 1"),
    ("`subscribe_to_task`, unknown", "-32001 task not found: #13"),
    (
        "`subscribe_to_task`, finished",
        "-32004 task #2 has already reached a terminal state",
    ),
    (
        "`send_message`, to an unknown task",
        "-32001 task not found: #13",
    ),
    (
        "`send_streaming_message`, to an unknown task",
        "-32001 task not found: #13",
    ),
    (
        "`send_message`, to a finished task",
        "-32004 task #2 has already reached a terminal state",
    ),
    (
        "`send_streaming_message`, to a finished task",
        "-32004 task #2 has already reached a terminal state",
    ),
    (
        "`list_tasks`, a wrong page token",
        "-32602 invalid page token",
    ),
    (
        "`send_message`, a version that is none",
        "-32009 version not supported: 9.9",
    ),
    ("`destroy`", "done"),
];

/// Where the stock transport of one binding gets another answer, and why.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        binding: "HTTP+JSON",
        call: "`get_push_config`, second",
        outcome: "-32001 push notification config not found: second, 100%",
        why: "the stock transport does not escape what it puts into a path (a2a-client-lf 0.2.9)",
    },
    Exception {
        binding: "HTTP+JSON",
        call: "`send_message`, a version that is none",
        outcome: "task COMPLETED, artifact \"ahoy\", history of 1",
        why: VERSION,
    },
    Exception {
        binding: "GRPC",
        call: "`send_message`, a version that is none",
        outcome: "task COMPLETED, artifact \"ahoy\", history of 1",
        why: VERSION,
    },
];

const VERSION: &str =
    "the official server looks at `A2A-Version` in JSON-RPC only (a2a-server-lf 0.5.3)";

/// Where ours is better than the stock transport.
pub(crate) const BETTER: &[Exception] = &[Exception {
    binding: "HTTP+JSON",
    call: "`get_push_config`, second",
    outcome: "second, 100%? to https://example.com/second",
    why: "an id is one segment of the path, whatever is in it",
}];

/// An outcome that is another in one binding.
#[derive(Debug)]
pub(crate) struct Exception {
    pub(crate) binding: &'static str,
    pub(crate) call: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) why: &'static str,
}
