use super::*;

fn problems(yaml: &str) -> String {
    Manifest::from_yaml("M", yaml).unwrap_err().to_string()
}

#[test]
fn the_whole_form_in_yaml_and_json() {
    let yaml = "apt: [git]\npip:\n  - numpy==1.0\ncustom_nodes:\n  - some-node\n  - \
                https://h.example/u/r@v1\nmodels:\n  before_start:\n    - url: \
                https://h.example/a\n      local_path: models/a.bin\n  after_start:\n";
    let json = r#"{"apt":["git"],"pip":["numpy==1.0"],"custom_nodes":["some-node","https://h.example/u/r@v1"],"models":{"before_start":[{"url":"https://h.example/a","local_path":"models/a.bin"}],"after_start":null}}"#;
    let manifest = Manifest::from_yaml("M", yaml).unwrap();
    assert_eq!(manifest, Manifest::from_json("M", json).unwrap());
    assert_eq!(
        manifest.before_start[0].local_path,
        Path::new("models/a.bin")
    );
    assert!(manifest.after_start.is_empty() && manifest.custom_nodes.len() == 2);
    assert_eq!(
        Manifest::from_yaml("M", "# nothing\n").unwrap(),
        Manifest::default()
    );
    assert_eq!(
        Manifest::from_yaml("M", "apt:\n# - git\n").unwrap(),
        Manifest::default()
    );
}

#[test]
fn every_problem_is_named_with_its_place_and_no_value_is_shown() {
    let text = problems(
        "apt: git\npip: [1.0]\nmodels:\n  after_start:\n    - url: ftp://u:marked@h/a\n      \
         local_path: models/\n    - local_path: a\n",
    );
    for expected in [
        "apt must be a list",
        "pip[0] must be a text",
        "models.after_start[0].url must begin",
        "models.after_start[0].local_path must name a file",
        "models.after_start[1].url is missing",
    ] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    assert!(!text.contains("marked"));
}

/// D15.
#[test]
fn keys_that_mean_nothing_here_are_warnings() {
    let manifest = Manifest::from_yaml(
        "M",
        "version: 2\nname: mine\napts: [x]\nmodels:\n  later: []\n  after_start:\n    - url: \
         https://h/a\n      local_path: a\n      size: 1\n",
    )
    .unwrap();
    let places: Vec<&str> = manifest
        .warnings
        .iter()
        .filter_map(|warning| warning.split_once(" is not known"))
        .map(|(place, _)| place)
        .collect();
    let expected = [
        "version",
        "name",
        "apts",
        "models.later",
        "models.after_start[0].size",
    ];
    assert_eq!(places, expected);
    assert_eq!(manifest.after_start.len(), 1);
}

#[test]
fn broken_documents_are_errors_that_show_no_secret() {
    assert!(problems("pip: ['https://u:marked@h/x\n  bad: [").contains("M is not YAML"));
    assert!(!problems("pip: ['https://u:marked@h/x\n  bad: [").contains("marked"));
    assert!(problems("- a\n- b").contains("must be an object"));
    assert!(
        problems("custom_nodes: [https://h.example/a/r, https://h.example/b/r]")
            .contains("asked for twice")
    );
    assert!(
        problems("pip: [a]\npip: [b]").contains("not YAML"),
        "a key twice is a mistake"
    );
    assert!(
        Manifest::from_json("M", "{")
            .unwrap_err()
            .to_string()
            .contains("M is not JSON")
    );
    assert!(
        Manifest::from_file(Path::new("a.txt"), "")
            .unwrap_err()
            .to_string()
            .contains(".yaml")
    );
}
