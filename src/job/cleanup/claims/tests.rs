use super::*;

fn claim(claims: &Claims, dir: &Path, id: &str, prefixes: &[&str]) -> Claim {
    let prefixes = prefixes
        .iter()
        .enumerate()
        .map(|(node, text)| Prefix::new(&node.to_string(), text, id))
        .collect();
    claims.open(prefixes, dir, &dir.join("temp"), Arc::default())
}

fn ours(nodes: &[&str]) -> Owner {
    Owner::Ours(nodes.iter().map(|node| (*node).to_owned()).collect())
}

/// F09: an id that is the beginning of another one takes none of its files.
#[test]
fn the_longest_prefix_owns_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let claims = Claims::default();
    let short = claim(
        &claims,
        dir.path(),
        "a",
        &["a_x", "v/a_x_mask", "a_t%width%"],
    );
    assert_eq!(short.owner("a_x_y_00001_.png"), ours(&["0"]));
    let long = claim(&claims, dir.path(), "a_x", &["a_x_y"]);
    assert_eq!(short.owner("a_x_y_00001_.png"), Owner::Another);
    assert_eq!(long.owner("a_x_y_00001_.png"), ours(&["0"]));
    for (file, owner) in [
        ("a_x.txt", ours(&["0"])),
        ("a_x_mask_1.png", ours(&["1"])),
        ("a_t64_00001_.png", ours(&["2"])),
        ("b.png", Owner::Nobody),
        ("ab_x.png", Owner::Nobody),
    ] {
        assert_eq!(short.owner(file), owner, "{file}");
    }
    drop(long);
    assert_eq!(short.owner("a_x_y_00001_.png"), ours(&["0"]));
    let bare = claim(&claims, dir.path(), "c", &["c"]);
    assert_eq!(bare.owner("c_00001_.png"), ours(&["0"]));
    assert_eq!(bare.owner("cat.png"), Owner::Nobody);
}

/// Two prompts whose ids and prefixes add up to the same text: what is not reported is nobody's.
#[test]
fn a_prefix_that_two_prompts_have_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let claims = Claims::default();
    let one = claim(&claims, dir.path(), "a", &["a_x_y"]);
    let two = claim(&claims, dir.path(), "a_x", &["a_x_y"]);
    std::fs::write(dir.path().join("a_x_y_00001_.png"), "x").unwrap();
    assert_eq!(one.in_folders().count() + two.in_folders().count(), 0);
    assert_eq!(one.owner("a_x_y_00001_.png"), ours(&["0"]));
    drop(two);
    assert_eq!(one.in_folders().count(), 1);
}

/// F16
#[test]
fn folders_go_with_the_last_prompt_that_uses_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let claims = Claims::default();
    std::fs::create_dir(root.join("kept")).unwrap();
    let one = claim(&claims, root, "1", &["deep/er/1_x", "kept/1_x"]);
    let two = claim(&claims, root, "2", &["deep/2_x"]);
    std::fs::create_dir_all(root.join("deep/er")).unwrap();
    let date = root.join("2026/11");
    std::fs::create_dir_all(&date).unwrap();
    one.uses_folder_of(&date.join("1_x.png"));
    drop(one);
    assert!(!root.join("deep/er").exists() && root.join("deep").exists());
    assert!(root.join("kept").exists() && date.exists());
    std::fs::write(root.join("deep/other"), "").unwrap();
    drop(two);
    assert!(root.join("deep").exists() && !root.join("2026").exists());
    assert!(claims.lock().folders.is_empty(), "{claims:?}");
}

#[test]
fn what_was_there_before_is_not_swept() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("v")).unwrap();
    std::fs::write(root.join("v/i_x_00001_.png"), "before").unwrap();
    let claims = Claims::default();
    let own = claim(&claims, root, "i", &["v/i_x"]);
    std::fs::write(root.join("v/i_x_00002_.png"), "").unwrap();
    std::fs::create_dir(root.join("elsewhere")).unwrap();
    std::fs::write(root.join("elsewhere/i_x.txt"), "").unwrap();
    own.sweep();
    drop(own);
    assert!(root.join("v/i_x_00001_.png").exists());
    assert!(!root.join("v/i_x_00002_.png").exists() && !root.join("elsewhere").exists());
}
