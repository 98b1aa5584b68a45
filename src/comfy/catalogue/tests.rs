use serde_json::json;

use super::*;

#[test]
fn both_combo_shapes_are_read() {
    let markers = Markers {
        placed: Vec::new(),
        mark: "zz-probe-1".into(),
    };
    let info = json!({
        "KSampler": {
            "input": {
                "required": {
                    "sampler_name": [["euler", "dpm"], {}],
                    "scheduler": ["COMBO", {"options": ["normal", 3]}]
                }
            }
        },
        "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": true}]}}},
        "LoadVideo": {
            "input": {"required": {"file": ["COMBO", {"options": [], "video_upload": true}]}}
        },
        "MyLoader": {"input": {"optional": {"thing": [[
            "x",
            "zz-probe-1--ultralytics--zz.gguf"
        ]], "words": ["STRING", {}],
            "bare": [["CHOOSE", "zz-probe-1--loras--zz"]],
            "prefixed": [["x/zz-probe-1--nowhere--zz.pt"]],
            "rows": ["DYN",
            {"template": {"required": {"l": [["zz-probe-1--loras--zz.safetensors"]]}}}]}}},
    });
    let mut catalogue = Catalogue::default();
    for folder in ["loras", "ultralytics", "clip_vision"] {
        catalogue.folders.insert(folder.into(), Vec::new());
    }
    catalogue.read_classes(&info, &markers);
    assert_eq!(catalogue.samplers, ["euler", "dpm"]);
    assert_eq!(catalogue.schedulers, ["normal"]);
    assert!(
        catalogue.is_media("LoadImage", "image")
            && catalogue.is_media("LoadVideo", "file")
            && !catalogue.is_media("KSampler", "scheduler")
    );
    assert_eq!(
        catalogue.model_folder("MyLoader", "thing"),
        Some("ultralytics")
    );
    assert_eq!(catalogue.model_folder("MyLoader", "rows"), Some("loras"));
    assert_eq!(
        catalogue.model_folder("CLIPVisionLoader", "clip_name"),
        Some("clip_vision")
    );
    assert_eq!(catalogue.model_folder("MyLoader", "other"), None);
    assert_eq!(
        ["thing", "bare", "prefixed"].map(|input| catalogue.lists_plainly("MyLoader", input)),
        [true, false, false]
    );
    // ComfyUI does not name that folder (F31).
    assert_eq!(catalogue.model_folder("MyLoader", "bare"), Some("loras"));
    assert_eq!(catalogue.model_folder("MyLoader", "prefixed"), None);
    let kinds = ["thing", "words", "rows"].map(|input| catalogue.kind("MyLoader", input));
    let expected = [InputKind::Choice, InputKind::Text, InputKind::Other];
    assert_eq!(kinds, expected.map(Some));
    assert_eq!(catalogue.kind("MyLoader", "nothing"), None);
}

#[test]
fn directories_in_comfyuis_order_but_old_names_behind_their_neighbours() {
    let mut catalogue = Catalogue::default();
    let dirs = [
        "/v/unet",
        "/m/unet",
        "/m/diffusion_models",
        "/o/diffusion_models",
    ];
    catalogue
        .folders
        .insert("diffusion_models".into(), dirs.map(PathBuf::from).to_vec());
    catalogue
        .folders
        .insert("loras".into(), vec!["/gone/x".into(), "/m/loras".into()]);
    let order = [
        "/v/unet",
        "/m/diffusion_models",
        "/m/unet",
        "/o/diffusion_models",
    ];
    assert_eq!(
        catalogue.model_dirs("diffusion_models"),
        order.map(PathBuf::from)
    );
    assert_eq!(catalogue.model_dir("loras"), Some("/gone/x".into()));
    assert_eq!(
        catalogue.folder_of(Path::new("/m/loras/sub/a.pt")),
        Some(("loras", "sub/a.pt".to_owned()))
    );
}
