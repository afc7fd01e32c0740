use std::io::Write;
use std::sync::Mutex;

use super::*;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn each_limit_is_counted_every_time_and_logged_the_first_time() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let counted: Arc<Mutex<Vec<_>>> = Arc::default();
    let count = counted.clone();
    let limits = LimitReports::new(Some(Arc::new(move |event: &ServerEvent| {
        count.lock().unwrap().push(*event);
    })));
    let holder = Owner::of(None, Some("192.0.2.7:1".parse().unwrap()));
    tracing::subscriber::with_default(subscriber, || {
        for limit in [
            Limit::Full,
            Limit::Full,
            Limit::Idle,
            Limit::Full,
            Limit::Idle,
        ] {
            limits.reached(limit, &holder);
        }
    });
    assert_eq!(counted.lock().unwrap().len(), 5);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("full") && lines[0].contains("192.0.2.7/32"),
        "{text}"
    );
    assert!(lines[1].contains("idle"), "{text}");
}
