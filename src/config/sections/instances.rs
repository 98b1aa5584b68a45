//! Several ComfyUI on one machine: how many, on which GPUs, and the command of each (fleet.md,
//! section 1).

use std::path::{Path, PathBuf};

use url::Url;

use super::gpus;
use crate::config::Reader;
use crate::config::variables::comfy::{
    COMFYUI_DEVICES, COMFYUI_INSTANCE_ARGS, COMFYUI_INSTANCES, COMFYUI_URLS,
};

/// More on one machine are a mistake.
const MOST: usize = 64;
/// What is replaced in the words of `CMD`.
const PLACEHOLDERS: [&str; 4] = ["index", "port", "device", "temp"];

/// One ComfyUI of those that are started or attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComfyInstance {
    /// Its number, from 0.
    pub index: usize,
    /// Where it listens.
    pub address: String,
    /// Where it listens.
    pub port: u16,
    /// What starts it; empty means that it is there already.
    pub command: Vec<String>,
    /// Its GPUs as `CUDA_VISIBLE_DEVICES` takes them, where they are said.
    pub devices: Option<String>,
    /// Its own directory for temporary files, where its command names it.
    pub temp: Option<PathBuf>,
}

/// What is common to all of them.
pub(super) struct Common<'a> {
    pub command: &'a [String],
    pub address: &'a str,
    pub port: u16,
    pub home: &'a Path,
}

/// What `COMFYUI_INSTANCES` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Unset,
    Auto,
    Number(usize),
}

/// Reads how many there are and what each is.
pub(super) fn read(r: &mut Reader, common: &Common<'_>) -> Vec<ComfyInstance> {
    let asked = asked(r);
    let places = places(r);
    let sets = device_sets(r);
    let attached = common.command.is_empty();
    check_places(r, asked, places.len(), attached);
    let gpus = match asked {
        Asked::Auto if sets.is_empty() && places.is_empty() => gpus::visible(r),
        Asked::Number(2..) if sets.is_empty() && !attached => gpus::visible(r),
        _ => Vec::new(),
    };
    let count = match asked {
        _ if !places.is_empty() => places.len(),
        Asked::Number(number) => number,
        Asked::Auto if !sets.is_empty() => sets.len(),
        Asked::Auto => gpus.len().clamp(1, MOST),
        Asked::Unset => 1,
    };
    if !sets.is_empty() && sets.len() != count {
        r.problem(format!(
            "COMFYUI_DEVICES has {}, and there {} ComfyUI: separate the sets of devices by \";\" \
             and make them as many as COMFYUI_INSTANCES (or set that to auto)",
            counted(sets.len(), "set"),
            if count == 1 {
                "is 1".to_owned()
            } else {
                format!("are {count}")
            },
        ));
    }
    let devices = devices(r, count, attached, sets, gpus);
    let highest = usize::from(common.port) + count - 1;
    if places.is_empty() && highest > usize::from(u16::MAX) {
        r.problem(format!(
            "COMFYUI_PORT_HOST={} leaves no ports for {count} ComfyUI: the last one would listen \
             on {highest}, and ports end at 65535",
            common.port
        ));
    }
    let words = words(r, common.command, count);
    let instances = (0..count).map(|index| {
        let place = places.get(index).cloned();
        instance(common, index, place, devices.get(index).cloned(), &words)
    });
    instances.collect()
}

fn instance(
    common: &Common<'_>,
    index: usize,
    place: Option<(String, u16)>,
    devices: Option<String>,
    words: &[String],
) -> ComfyInstance {
    let offset = u16::try_from(index).unwrap_or(u16::MAX);
    let (address, port) = place.unwrap_or_else(|| {
        (
            common.address.to_owned(),
            common.port.saturating_add(offset),
        )
    });
    let temp = common.home.join("instances").join(index.to_string());
    let values = [
        index.to_string(),
        port.to_string(),
        devices.clone().unwrap_or_default(),
        temp.display().to_string(),
    ];
    ComfyInstance {
        index,
        address,
        port,
        temp: words.iter().any(|word| holds(word, "temp")).then_some(temp),
        command: words.iter().map(|word| filled_in(word, &values)).collect(),
        devices,
    }
}

/// COMFYUI_URLS beside variables that it contradicts.
fn check_places(r: &mut Reader, asked: Asked, places: usize, attached: bool) {
    if places == 0 {
        return;
    }
    if !attached {
        r.problem(
            "COMFYUI_URLS names ComfyUIs that run already, and CMD starts one: set CMD to an \
             empty text, or unset COMFYUI_URLS",
        );
    }
    if matches!(asked, Asked::Number(number) if number != places) {
        r.problem(format!(
            "COMFYUI_INSTANCES does not fit COMFYUI_URLS, which names {}: unset it",
            places
        ));
    }
}

fn asked(r: &mut Reader) -> Asked {
    match r.text(&COMFYUI_INSTANCES) {
        None => Asked::Unset,
        Some(word) if word.eq_ignore_ascii_case("auto") => Asked::Auto,
        Some(word) => match word.parse::<usize>() {
            Ok(number) if (1..=MOST).contains(&number) => Asked::Number(number),
            _ => {
                let shown: String = word.chars().take(60).collect();
                r.problem(format!(
                    "COMFYUI_INSTANCES=\"{shown}\" is not valid: use auto, or a number from 1 to \
                     {MOST} (ComfyUIs)"
                ));
                Asked::Unset
            }
        },
    }
}

/// Where those are that run already.
fn places(r: &mut Reader) -> Vec<(String, u16)> {
    let mut places = Vec::new();
    for text in r.list(&COMFYUI_URLS) {
        let place = place(&text);
        let public: String = text
            .split('@')
            .next_back()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect();
        match place {
            Some(place) if places.contains(&place) => {
                r.problem(format!(
                    "COMFYUI_URLS names {public} twice: name each ComfyUI once"
                ));
            }
            Some(place) => places.push(place),
            None => r.problem(format!(
                "COMFYUI_URLS: \"{public}\" is not the address of a ComfyUI: write it as \
                 http://host:port, with nothing behind the port"
            )),
        }
    }
    if places.len() > MOST {
        r.problem(format!(
            "COMFYUI_URLS names {} ComfyUI: {MOST} are the most",
            places.len()
        ));
        places.truncate(MOST);
    }
    places
}

fn place(text: &str) -> Option<(String, u16)> {
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    let url = url.ok()?;
    let bare = url.scheme() == "http"
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url
        .host_str()
        .filter(|_| bare)?
        .trim_matches(['[', ']'])
        .to_owned();
    Some((host, url.port_or_known_default()?))
}

/// `0;1;2,3`: sets between instances, devices in a set.
fn device_sets(r: &mut Reader) -> Vec<String> {
    let Some(text) = r.text(&COMFYUI_DEVICES) else {
        return Vec::new();
    };
    let set = |text: &str| -> Option<String> {
        let devices: Vec<&str> = text.split(',').map(str::trim).collect();
        let usable = |device: &&str| !device.is_empty() && !device.contains(char::is_whitespace);
        devices.iter().all(usable).then(|| devices.join(","))
    };
    let sets: Vec<String> = text.split(';').map_while(set).collect();
    if sets.len() == text.split(';').count() {
        return sets;
    }
    let shown: String = text.chars().take(200).collect();
    r.problem(format!(
        "COMFYUI_DEVICES=\"{shown}\" has a set without a device: write one set for each ComfyUI, \
         \";\" between sets, \",\" between devices, as in 0;1;2,3"
    ));
    Vec::new()
}

/// The devices of each; empty when nothing is set.
fn devices(
    r: &mut Reader,
    count: usize,
    attached: bool,
    sets: Vec<String>,
    gpus: Vec<String>,
) -> Vec<String> {
    if attached {
        if !sets.is_empty() {
            r.warning(
                "COMFYUI_DEVICES has no effect on a ComfyUI that runs already: whoever starts it \
                 chooses its devices",
            );
        }
        return Vec::new();
    }
    if !sets.is_empty() {
        let all = sets.iter().flat_map(|set| set.split(','));
        if let Some((device, shown)) = gpus::missing(all) {
            r.problem(format!(
                "COMFYUI_DEVICES names the device {device}, which is not there: nvidia-smi shows \
                 {shown}"
            ));
        }
        return sets;
    }
    if count > gpus.len() && count > 1 {
        r.warning(format!(
            "COMFYUI_INSTANCES is {count}, and {} here: no devices are set, and every ComfyUI \
             sees all there are. Set COMFYUI_DEVICES to say which uses which",
            match gpus.len() {
                0 => "nvidia-smi shows no GPU".to_owned(),
                1 => "there is 1 GPU".to_owned(),
                more => format!("there are {more} GPUs"),
            }
        ));
        return Vec::new();
    }
    if count > 1 {
        return gpus.into_iter().take(count).collect();
    }
    Vec::new()
}

/// The command with what each needs to be told, before anything is filled in.
fn words(r: &mut Reader, command: &[String], count: usize) -> Vec<String> {
    let mut words = command.to_vec();
    let text = if r.set_but_empty(&COMFYUI_INSTANCE_ARGS) {
        String::new()
    } else {
        r.text_or(&COMFYUI_INSTANCE_ARGS)
    };
    let arguments = shell_words::split(&text).unwrap_or_else(|_| {
        r.problem(
            "COMFYUI_INSTANCE_ARGS has an unclosed quote: write it as a shell would accept it",
        );
        Vec::new()
    });
    if count > 1 && !words.is_empty() && !words.iter().any(|word| holds(word, "port")) {
        words.extend(arguments);
    }
    words
}

/// Whether a word has a placeholder that is to be filled in.
fn holds(word: &str, name: &str) -> bool {
    pieces(word).any(|piece| piece == Piece::Placeholder(name))
}

fn filled_in(word: &str, values: &[String; 4]) -> String {
    let text = |piece: Piece<'_>| match piece {
        Piece::Text(text) => text.to_owned(),
        Piece::Escaped(name) => format!("{{{name}}}"),
        Piece::Placeholder(name) => {
            let at = PLACEHOLDERS.iter().position(|known| *known == name);
            at.map(|at| values[at].clone()).unwrap_or_default()
        }
    };
    pieces(word).map(text).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// `{{port}}`
    Escaped(&'a str),
    /// `{port}`
    Placeholder(&'a str),
}

/// A word as what stands and what is to be replaced. Braces around anything else stay as they are.
fn pieces(word: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let named = |open: &str, close: &str| {
            let inside = rest.strip_prefix(open)?;
            let name = PLACEHOLDERS.into_iter().find(|name| {
                inside
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(close))
            })?;
            Some((name, open.len() + name.len() + close.len()))
        };
        let (piece, length) = match (named("{{", "}}"), named("{", "}")) {
            (Some((name, length)), _) => (Piece::Escaped(name), length),
            (None, Some((name, length))) => (Piece::Placeholder(name), length),
            (None, None) => {
                let first = rest.chars().next().map_or(1, char::len_utf8);
                let length = rest[first..].find('{').map_or(rest.len(), |at| first + at);
                (Piece::Text(&rest[..length]), length)
            }
        };
        rest = &rest[length..];
        Some(piece)
    })
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        let values = ["1", "8189", "2,3", "/c/instances/1"].map(str::to_owned);
        for (word, expected) in [
            ("--port={port}", "--port=8189"),
            ("{index}{device}", "12,3"),
            ("{{port}} {port}", "{port} 8189"),
            ("{{{port}}}", "{{port}}"),
            ("{\"a\": {}}", "{\"a\": {}}"),
            ("${port}x{temp}", "$8189x/c/instances/1"),
            ("{ports} {", "{ports} {"),
            ("ü{port}ü", "ü8189ü"),
        ] {
            assert_eq!(filled_in(word, &values), expected, "{word}");
        }
        assert!(holds("a{port}", "port") && !holds("{{port}}", "port"));
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        let known = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(place("http://gpu-1:8188"), known("gpu-1", 8188));
        assert_eq!(place("10.0.0.2:8188/"), known("10.0.0.2", 8188));
        assert_eq!(place("http://[::1]:81"), known("::1", 81));
        for wrong in [
            "https://a:1",
            "http://a:1/x",
            "http://u:p@a:1",
            "",
            "ftp://a",
        ] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
