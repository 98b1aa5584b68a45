use super::*;

fn texts(lines: &[Arc<LogLine>]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn the_last_lines_are_kept_within_bounds() {
    let recent = RecentLines::new();
    for n in 0..LOG_LINES_KEPT + 10 {
        recent.comfyui(&n.to_string(), None, None);
    }
    let (lines, place) = recent.last(usize::MAX, &Selection::default());
    assert_eq!(
        (lines.len(), lines[0].text.as_str()),
        (LOG_LINES_KEPT, "10")
    );
    assert!(recent.since(place).0.is_empty());
    recent.comfyui("new", None, None);
    assert_eq!(texts(&recent.since(place).0), ["new"]);
    assert_eq!(recent.since(0).0.len(), LOG_LINES_KEPT);
    for _ in 0..1000 {
        recent.comfyui(&"x".repeat(8_000), None, None);
    }
    let (lines, _) = recent.last(usize::MAX, &Selection::default());
    let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= LOG_BYTES_KEPT && bytes > LOG_BYTES_KEPT - 8_000);
}

#[test]
fn secrets_and_colours_are_taken_out() {
    let recent = RecentLines::new();
    recent.hide(&[Secret::new("a-long-secret"), Secret::new("one")]);
    for line in [
        "\u{1b}[31mred\u{1b}[0m",
        "xa-long-secretx",
        "none of one, one",
        "(one)",
    ] {
        recent.comfyui(line, None, None);
    }
    let (lines, _) = recent.last(10, &Selection::default());
    assert_eq!(texts(&lines), ["red", "x***x", "none of ***, ***", "(***)"]);
}

#[test]
fn lines_are_chosen_by_source_level_and_prompt() {
    let recent = RecentLines::new();
    recent.comfyui("[ERROR] a", Some("p".into()), None);
    recent.comfyui("plain", None, None);
    recent.add(Printer::Server, Some(Severity::Debug), "b", (None, None));
    recent.add(
        Printer::Server,
        Some(Severity::Warn),
        "c",
        (Some("p".into()), None),
    );
    let chosen = |wanted: Selection| {
        let (lines, _) = recent.last(10, &wanted);
        lines
            .iter()
            .map(|line| line.text.clone())
            .collect::<Vec<_>>()
    };
    let any = Selection::default;
    assert_eq!(
        chosen(Selection {
            source: Some(Printer::Server),
            ..any()
        }),
        ["b", "c"]
    );
    assert_eq!(
        chosen(Selection {
            level: Some(Severity::Info),
            ..any()
        }),
        ["[ERROR] a", "plain", "c"]
    );
    assert_eq!(
        chosen(Selection {
            prompt_id: Some("p".into()),
            level: Some(Severity::Error),
            ..any()
        }),
        ["[ERROR] a"]
    );
    for (line, level) in [
        ("WARNING: x", Some(Severity::Warn)),
        ("Traceback (most recent call last):", Some(Severity::Error)),
        ("got prompt", None),
        ("ERROR", None),
    ] {
        assert_eq!(severity_in(line), level, "{line}");
    }
}
