use super::check::UNCHECKED;
use serde_json::json;

use super::*;

fn messages(schema: &Value, value: &Value) -> Vec<String> {
    let issues = validate(schema, value).err().unwrap_or_default();
    let place = |issue: &Issue| {
        issue
            .path
            .iter()
            .map(|step| {
                step.as_str()
                    .map_or_else(|| step.to_string(), str::to_owned)
            })
            .collect::<Vec<_>>()
            .join(".")
    };
    issues
        .iter()
        .map(|issue| format!("{}: {}", place(issue), issue.message))
        .collect()
}

#[test]
fn each_part_of_all_of_sees_the_whole_value() {
    let schema = json!({"allOf": [
        {
            "properties": {"a": {"type": "string"}, "more": {"properties": {"x": {}}}},
            "required": ["a"]
        },
        {
            "properties": {
                "b": {"type": "string"},
                "c": {"default": 3},
                "more": {"properties": {"y": {"default": 2}}}
            },
            "required": ["b"]
        },
    ]});
    let given = json!({"a": "1", "b": "2", "junk": 0, "more": {"x": 1, "junk": 0}});
    assert_eq!(
        validate(&schema, &given),
        Ok(json!({"a": "1", "b": "2", "c": 3, "more": {"x": 1, "y": 2}}))
    );
    assert_eq!(messages(&schema, &json!({"a": "1"})), ["b: Required"]);
}

#[test]
fn alternatives_take_nothing_away_and_add_the_defaults_of_the_first_that_fits() {
    let schema = json!({
        "properties": {"prompt": {"type": "string"}, "mode": {"type": "string"}},
        "anyOf": [
            {"properties": {"mode": {"const": "a"}, "level": {"default": 1}}},
            {"properties": {"mode": {"const": "b"}, "depth": {"default": 2}}},
        ],
    });
    let parsed = |value: Value| validate(&schema, &value);
    assert_eq!(
        parsed(json!({"prompt": "p", "mode": "a", "junk": 0})),
        Ok(json!({"prompt": "p", "mode": "a", "level": 1}))
    );
    assert_eq!(
        parsed(json!({"prompt": "p", "mode": "b", "level": 5})),
        Ok(json!({"prompt": "p", "mode": "b", "level": 5, "depth": 2}))
    );
    assert_eq!(
        messages(&schema, &json!({"prompt": "p", "mode": "c"})),
        [": Invalid input"]
    );
    let one = json!({
        "properties": {"a": {}, "b": {}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]
    });
    assert_eq!(
        validate(&one, &json!({"a": 1, "junk": 0})),
        Ok(json!({"a": 1}))
    );
    assert_eq!(
        messages(&one, &json!({"a": 1, "b": 1})),
        [": Invalid input: it fits more than one of the alternatives"]
    );
}

#[test]
fn unknown_keys_stay_only_where_no_part_that_applies_lists_members() {
    let union = json!({
        "anyOf": [
            {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
            {"type": "object"}
        ]
    });
    assert_eq!(
        validate(&union, &json!({"kind": "a", "x": 1})),
        Ok(json!({"kind": "a"}))
    );
    assert_eq!(validate(&union, &json!({"x": 1})), Ok(json!({"x": 1})));
    let open =
        json!({"properties": {"a": {}}, "allOf": [{"additionalProperties": {"type": "number"}}]});
    assert_eq!(
        messages(&open, &json!({"x": "1"})),
        ["x: Expected number, received string"]
    );
    assert_eq!(
        validate(&open, &json!({"a": 2, "x": 1})),
        Ok(json!({"a": 2, "x": 1}))
    );
    let items = json!({"items": {"properties": {"a": {}}}});
    assert_eq!(
        validate(&items, &json!([{"a": 1, "b": 2}])),
        Ok(json!([{"a": 1}]))
    );
    let empty = json!({"type": "object", "properties": {}});
    assert_eq!(validate(&empty, &json!({"x": 1})), Ok(json!({})));
}

#[test]
fn rules_about_members_items_and_conditions() {
    let unique = json!({"uniqueItems": true});
    for (value, good) in [
        (json!([1, "1", true, [1], {"a": 1}]), true),
        (json!([1, 1.0]), false),
        (json!([0.0, -0.0]), false),
        (json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]), false),
    ] {
        assert_eq!(validate(&unique, &value).is_ok(), good, "{value}");
    }
    let size = json!({"minProperties": 1, "maxProperties": 2});
    assert_eq!(
        messages(&size, &json!({})),
        [": Object must contain at least 1 key(s)"]
    );
    assert_eq!(
        messages(&size, &json!({"a": 1, "b": 1, "c": 1})),
        [": Object must contain at most 2 key(s)"]
    );
    let dependent = json!({"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}});
    assert_eq!(messages(&dependent, &json!({"a": 1})), ["b: Required"]);
    assert_eq!(validate(&dependent, &json!({"b": 1})), Ok(json!({"b": 1})));
    let excluded = json!({"properties": {"a": {"not": {"const": "x"}}}});
    assert_eq!(
        messages(&excluded, &json!({"a": "x"})),
        ["a: Invalid input: it fits what the schema excludes"]
    );
    assert_eq!(
        validate(&excluded, &json!({"a": "y"})),
        Ok(json!({"a": "y"}))
    );
    let conditional = json!({
        "properties": {"mode": {"type": "string"}},
        "if": {"properties": {"mode": {"const": "a"}}, "required": ["mode"]},
        "then": {"properties": {"level": {"type": "integer"}}, "required": ["level"]},
        "else": {"properties": {"depth": {"default": 2}}},
    });
    assert_eq!(
        messages(&conditional, &json!({"mode": "a"})),
        ["level: Required"]
    );
    assert_eq!(
        validate(&conditional, &json!({"mode": "a", "level": 1, "junk": 0})),
        Ok(json!({"mode": "a", "level": 1}))
    );
    assert_eq!(
        validate(&conditional, &json!({"mode": "b"})),
        Ok(json!({"mode": "b", "depth": 2}))
    );
}

#[test]
fn what_would_go_unchecked_is_refused() {
    for name in UNCHECKED {
        let mut inner = json!({"type": "object"});
        inner[name] = json!({});
        for schema in [
            json!({"properties": {"a": inner.clone()}}),
            json!({"not": inner.clone()}),
            json!({"then": inner}),
        ] {
            let refusal = check(&schema).unwrap_err();
            assert!(
                refusal.starts_with(&format!("{name} is not supported")),
                "{refusal}"
            );
        }
        // A member may have that name.
        let mut properties = json!({});
        properties[name] = json!({"type": "string"});
        assert_eq!(check(&json!({"properties": properties})), Ok(()));
    }
    assert!(check(&json!({"if": 5})).is_err());
}
