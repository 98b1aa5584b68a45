//! The least that any wrapper around ComfyUI must do, as fast as it can be done: queue, one
//! websocket, history, read, base64, delete. No checks, no limits, no log, no HTTP beyond what
//! `benches/floor.py` sends. The measure for what the product takes beyond that.
//!
//! `rustc --edition 2024 -O benches/floor.rs -o target/floor && target/floor PORT COMFYUI_PORT
//! COMFYUI_HOME`

#[path = "websocket/mod.rs"]
mod websocket;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

type Waiting = Arc<Mutex<HashMap<String, Sender<()>>>>;

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let (port, comfy): (u16, u16) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let waiting = watch(comfy);
    for stream in TcpListener::bind(("127.0.0.1", port)).unwrap().incoming() {
        let (waiting, output) = (waiting.clone(), format!("{}/output", words[3]));
        thread::spawn(move || serve(stream.unwrap(), comfy, &waiting, &output));
    }
}

/// One client: a request, an answer, and so on.
fn serve(stream: TcpStream, comfy: u16, waiting: &Waiting, output: &str) {
    stream.set_nodelay(true).unwrap();
    let mut client = BufReader::new(stream);
    let mut comfyui: Option<BufReader<TcpStream>> = None;
    while let Some((line, body)) = message(&mut client) {
        if line.starts_with("GET ") {
            client
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .unwrap();
            continue;
        }
        let comfyui = comfyui.get_or_insert_with(|| connect(comfy));
        prompt(client.get_mut(), comfyui, waiting, output, &body);
    }
}

fn prompt(
    client: &mut TcpStream,
    comfyui: &mut BufReader<TcpStream>,
    waiting: &Waiting,
    output: &str,
    body: &[u8],
) {
    let id = uuid();
    let (ended, end) = channel();
    waiting.lock().unwrap().insert(id.clone(), ended);
    // {"prompt": ...} becomes {"prompt": ..., "client_id": ..., "prompt_id": ...}
    let open = body.iter().rposition(|byte| *byte == b'}').unwrap();
    let mut graph = body[..open].to_vec();
    write!(graph, r#","client_id":"floor","prompt_id":"{id}"}}"#).unwrap();
    call(comfyui, "POST", "/prompt", &graph);
    end.recv().unwrap();
    let history = call(comfyui, "GET", &format!("/history/{id}"), b"");
    let history = String::from_utf8_lossy(&history);
    let mut answer = format!(r#"{{"id":"{id}","prompt":"#).into_bytes();
    let start = body.iter().skip(1).position(|byte| *byte == b'{').unwrap() + 1;
    answer.extend_from_slice(&body[start..open]);
    answer.extend_from_slice(br#","filenames":["#);
    let mut files = Vec::new();
    for (n, part) in history
        .split(r#""filename": ""#)
        .flat_map(|part| part.split(r#""filename":""#))
        .skip(1)
        .enumerate()
    {
        let name = &part[..part.find('"').unwrap()];
        write!(answer, r#"{}"{name}""#, if n == 0 { "" } else { "," }).unwrap();
        files.push(format!("{output}/{name}"));
    }
    answer.extend_from_slice(br#"],"images":["#);
    for (n, file) in files.iter().enumerate() {
        answer.extend_from_slice(if n == 0 { b"\"" } else { b",\"" });
        base64(&fs::read(file).unwrap(), &mut answer);
        answer.push(b'"');
    }
    answer.extend_from_slice(b"]}");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&answer).unwrap();
    for file in files {
        fs::remove_file(file).unwrap();
    }
    call(
        comfyui,
        "POST",
        "/history",
        format!(r#"{{"delete":["{id}"]}}"#).as_bytes(),
    );
}

fn uuid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid")
        .unwrap()
        .trim()
        .to_owned()
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// One call of ComfyUI's; gives the body.
fn call(comfyui: &mut BufReader<TcpStream>, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    comfyui.get_mut().write_all(&request).unwrap();
    message(comfyui).unwrap().1
}

/// The first line and the body of a request or an answer.
fn message(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let (mut length, mut chunked, mut line) = (0, false, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    while chunked {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let from = body.len();
        body.resize(from + size + 2, 0);
        reader.read_exact(&mut body[from..]).ok()?;
        body.truncate(from + size);
        chunked = size > 0;
    }
    if length > 0 {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    }
    Some((first, body))
}

/// The one websocket: tells who waits that his prompt has ended.
fn watch(port: u16) -> Waiting {
    let waiting = Waiting::default();
    let mut socket = connect(port);
    let request = "GET /ws?clientId=floor HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\
                   connection: upgrade\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        socket.read_line(&mut line).unwrap();
    }
    let known = waiting.clone();
    thread::spawn(move || {
        while let Some(text) = websocket::frame(&mut socket) {
            if websocket::is_end(&text) {
                let mut known = known.lock().unwrap();
                if let Some(ended) = text.split('"').find_map(|word| known.remove(word)) {
                    let _ = ended.send(());
                }
            }
        }
    });
    waiting
}

/// Two characters for twelve bits at a time.
fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    static PAIRS: std::sync::LazyLock<Vec<[u8; 2]>> = std::sync::LazyLock::new(|| {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..4096)
            .map(|n| [digits[n >> 6], digits[n & 63]])
            .collect()
    });
    let pairs: &[[u8; 2]; 4096] = PAIRS.as_slice().try_into().unwrap();
    out.reserve(bytes.len() / 3 * 4 + 4);
    let whole = bytes.chunks_exact(3);
    let rest = whole.remainder();
    for three in whole {
        let n = usize::from(three[0]) << 16 | usize::from(three[1]) << 8 | usize::from(three[2]);
        out.extend_from_slice(&pairs[n >> 12]);
        out.extend_from_slice(&pairs[n & 4095]);
    }
    if !rest.is_empty() {
        let n = usize::from(rest[0]) << 16 | usize::from(*rest.get(1).unwrap_or(&0)) << 8;
        let four = [pairs[n >> 12], pairs[n & 4095]].concat();
        out.extend_from_slice(&four[..=rest.len()]);
        out.resize(out.len() + 3 - rest.len(), b'=');
    }
}
