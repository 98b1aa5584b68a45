//! A 3D model that viewers can open: a ring in the colours of the rainbow, as GLB.

use serde_json::json;

const AROUND: u16 = 48;
const ACROSS: u16 = 24;

/// The bytes of a GLB file: triangles with normals and colours.
pub fn ring() -> Vec<u8> {
    let (mut positions, mut normals, mut colors) = (Vec::new(), Vec::new(), Vec::new());
    for around in 0..AROUND {
        let turn = std::f32::consts::TAU * f32::from(around) / f32::from(AROUND);
        for across in 0..ACROSS {
            let tilt = std::f32::consts::TAU * f32::from(across) / f32::from(ACROSS);
            let radius = 1.0 + 0.38 * tilt.cos();
            positions.extend([radius * turn.cos(), 0.38 * tilt.sin(), radius * turn.sin()]);
            normals.extend([tilt.cos() * turn.cos(), tilt.sin(), tilt.cos() * turn.sin()]);
            let shade = |offset: f32| 0.5 + 0.45 * (turn + offset).cos();
            colors.extend([shade(0.0), shade(2.1), shade(4.2)]);
        }
    }
    let corner = |around: u16, across: u16| (around % AROUND) * ACROSS + across % ACROSS;
    let indices: Vec<u16> = (0..AROUND)
        .flat_map(|around| (0..ACROSS).map(move |across| (around, across)))
        .flat_map(|(a, b)| {
            let (here, right) = (corner(a, b), corner(a + 1, b));
            let (up, both) = (corner(a, b + 1), corner(a + 1, b + 1));
            [here, up, right, right, up, both]
        })
        .collect();
    let mut binary: Vec<u8> = Vec::new();
    for values in [&positions, &normals, &colors] {
        binary.extend(values.iter().flat_map(|value: &f32| value.to_le_bytes()));
    }
    let vertices = positions.len() / 3;
    let triangles = binary.len();
    binary.extend(indices.iter().flat_map(|index| index.to_le_bytes()));
    let scene = scene(vertices, triangles, indices.len(), binary.len());
    packed(scene.to_string().into_bytes(), binary)
}

/// The JSON part: what lies where in the binary one.
fn scene(vertices: usize, triangles: usize, indices: usize, length: usize) -> serde_json::Value {
    let each = vertices * 12;
    let view = |index: usize| json!({"buffer": 0, "byteOffset": index * each, "byteLength": each});
    let vector = |index: usize| {
        json!({
            "bufferView": index,
            "componentType": 5126,
            "count": vertices,
            "type": "VEC3"
        })
    };
    let mut place = vector(0);
    place["min"] = json!([-1.38, -0.38, -1.38]);
    place["max"] = json!([1.38, 0.38, 1.38]);
    json!({
        "asset": {"version": "2.0", "generator": "comfyui-api simulator"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{
            "primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3}]
        }],
        "buffers": [{"byteLength": length}],
        "bufferViews": [
            view(0),
            view(1),
            view(2),
            {"buffer": 0, "byteOffset": triangles, "byteLength": indices * 2}
        ],
        "accessors": [
            place,
            vector(1),
            vector(2),
            {"bufferView": 3, "componentType": 5123, "count": indices, "type": "SCALAR"}
        ],
    })
}

fn packed(mut scene: Vec<u8>, mut binary: Vec<u8>) -> Vec<u8> {
    scene.resize(scene.len().next_multiple_of(4), b' ');
    binary.resize(binary.len().next_multiple_of(4), 0);
    let whole = 12 + 8 + scene.len() + 8 + binary.len();
    let mut file = b"glTF".to_vec();
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    file.extend(word(2));
    file.extend(word(whole));
    for (kind, chunk) in [(b"JSON", scene), (b"BIN\0", binary)] {
        file.extend(word(chunk.len()));
        file.extend(kind);
        file.extend(chunk);
    }
    file
}
