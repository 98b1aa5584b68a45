use super::*;

#[test]
fn a_folder_that_holds_everything_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (unpacked, target) = (dir.path().join("unpacked"), dir.path().join("target"));
    for folder in ["unpacked/__MACOSX", "unpacked/photos/2026/more", "target"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for file in [
        "__MACOSX/._a.png",
        "photos/2026/a.png",
        "photos/2026/more/b.png",
    ] {
        std::fs::write(unpacked.join(file), "x").unwrap();
    }
    move_contents(&unpacked, &target).unwrap();
    assert!(
        target.join("a.png").is_file() && target.join("more/b.png").is_file() && !unpacked.exists()
    );
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 2);
}
