//! Why targets are missed where they are, and what was tried: for the published page.

/// By the beginnings of the cases' names; the first that fits counts.
const REASONS: [(&str, &str); 8] = [
    (
        "room-8-call",
        "each push is a call that begins when the last is answered, a round trip between two busy processes on the same two cores. So \
         at most half of the window waits to be joined while the other half is being written. Tried: shorter turns of a bucket, after \
         each of which gRPC is served (32 connections instead of 256: 3.5 messages in a write instead of 2.6, 0.6 of the CPU time; \
         kept). Streamed, as Comet's own logic-stub pushes, the target is met.",
    ),
    (
        "room-8",
        "of 8 pushes under way some are being written while the others wait to be joined, so 4 to 5 are written together, and the \
         bare loop itself needs 0.31 of its cost when it joins 4. Streamed, where the next 8 come at once, the target is met.",
    ),
    (
        "room-1-",
        "the bare loop never waits, so that its receiver never sleeps. With one push under way the clients wait for each, and the \
         server's writes wake them, as those of a loop with 40 messages a second do, which itself needs 10.2 CPU s for a million \
         instead of 7.4. Of its own Comet adds some 300 instructions to a write, which take a tenth of a microsecond.",
    ),
    (
        "broadcast",
        "as for rooms with the same window: 4 to 5 messages are written together.",
    ),
    (
        "room-40",
        "server and clients together need about 19 ms of CPU time for one push to 1,000 sleeping readers, most of it the kernel's to \
         wake each of them, and both run on the same two cores: the last reader cannot have it before 9.5 ms. Of that the server's \
         10 ms are 1.1 times the bare loop's.",
    ),
    (
        "rooms-10000",
        "a room of one: each delivery is a push of its own with its receipt, as with single keys, and costs about 5 CPU s for a million \
         beyond its write.",
    ),
    (
        "key",
        "a call or a message of a stream for each delivery. Beyond the write, a unary call costs 13 to 16 CPU s for a million, half of \
         it in tonic and h2, the rest in waking threads and in answers, of which three go in one write; a streamed push costs 4. \
         Tried: writing the answers of several calls together (1.04 times as good at full load, worse at 5,000 a second; not kept), \
         one worker thread instead of two (no gain at full load); one task for a stream's messages and its receipts instead of two (1.1 \
         times as good at 5,000 a second, 0.8 times at full load; not kept). At 5,000 a second server and clients take one of the two \
         cores together, and a push that finds both busy waits.",
    ),
    (
        "logins",
        "more than half of a login is its one call to logic over gRPC; user time is about 100,000 instructions, nearly all of them \
         tonic's and h2's. Tried: writing the calls of several logins together (0.13 writes a login instead of 1, but only 1.15 times \
         as good; not kept), no second read of a socket that is empty (kept).",
    ),
];

/// What is known of a case that misses a target.
pub(super) fn of(id: &str) -> &'static str {
    let found = REASONS.iter().find(|(prefix, _)| id.starts_with(prefix));
    found.map_or("not explained yet.", |(_, reason)| reason)
}
