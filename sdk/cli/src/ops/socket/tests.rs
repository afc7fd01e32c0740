use super::*;

#[tokio::test]
async fn what_a_killed_process_of_the_same_number_left_does_not_matter() {
    let folder = std::env::temp_dir().join(format!("bowline-socket-{}", std::process::id()));
    let left = folder.join(format!(".{}", std::process::id()));
    fs::create_dir_all(&left).unwrap();
    drop(UnixListener::bind(left.join("s")).unwrap());
    let path = folder.join("admin.sock");
    let listener = bind_private(&path).await.unwrap();
    UnixStream::connect(&path).await.unwrap();
    listener.accept().await.unwrap();
    let found = fs::read_dir(&folder).unwrap();
    assert_eq!(found.count(), 1);
    // Nothing that holds something else is removed.
    fs::create_dir(&left).unwrap();
    fs::write(left.join("kept"), "kept").unwrap();
    let error = bind_private(&folder.join("other.sock")).await.unwrap_err();
    assert!(error.contains("exists"), "{error}");
    assert!(left.join("kept").exists());
    // A client could not connect to that.
    let long = folder.join("a".repeat(200));
    assert!(bind_private(&long).await.is_err());
    fs::remove_dir_all(&folder).unwrap();
}
