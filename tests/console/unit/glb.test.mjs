import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./setup.mjs";

const { parseGlb, triangles } = await load("viewer/glb.js");
const { multiply, IDENTITY } = await load("viewer/matrix.js");

/** A GLB of one document and its bytes. */
function glb(document, binary = new Uint8Array()) {
  const pad = (bytes, filler) =>
    Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4, filler)]);
  const json = pad(Buffer.from(JSON.stringify(document)), 32);
  const data = pad(Buffer.from(binary), 0);
  const head = (length, type) => {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(length, 0);
    bytes.writeUInt32LE(type, 4);
    return bytes;
  };
  const start = Buffer.alloc(12);
  start.writeUInt32LE(0x46546c67, 0);
  start.writeUInt32LE(2, 4);
  start.writeUInt32LE(28 + json.length + data.length, 8);
  const whole = Buffer.concat([
    start,
    head(json.length, 0x4e4f534a),
    json,
    head(data.length, 0x004e4942),
    data,
  ]);
  return whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.length);
}

const triangle = (extra = {}) => {
  const positions = new Float32Array([0, 0, 0, 2, 0, 0, 0, 2, 0]);
  const colors = new Uint8Array([255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0]);
  const binary = Buffer.concat([
    Buffer.from(positions.buffer),
    Buffer.from(colors.buffer),
    Buffer.from(new Uint16Array([0, 1, 2]).buffer),
  ]);
  return [
    {
      asset: { version: "2.0" },
      scenes: [{ nodes: [0] }],
      nodes: [
        { children: [1], translation: [10, 0, 0] },
        { mesh: 0, scale: [-1, 1, 1] },
      ],
      meshes: [
        { primitives: [{ attributes: { POSITION: 0, COLOR_0: 1 }, indices: 2, material: 0 }] },
      ],
      materials: [
        {
          pbrMetallicRoughness: { baseColorFactor: [0.5, 1, 1, 1], baseColorTexture: { index: 0 } },
          doubleSided: true,
          alphaMode: "BLEND",
        },
      ],
      textures: [{ source: 0 }],
      images: [{ uri: `data:image/png;base64,${Buffer.from("png").toString("base64")}` }],
      buffers: [{ byteLength: binary.length }],
      bufferViews: [
        { buffer: 0, byteLength: 36 },
        { buffer: 0, byteOffset: 36, byteLength: 12, byteStride: 4 },
        { buffer: 0, byteOffset: 48, byteLength: 6 },
      ],
      accessors: [
        { bufferView: 0, componentType: 5126, count: 3, type: "VEC3" },
        { bufferView: 1, componentType: 5121, normalized: true, count: 3, type: "VEC3" },
        { bufferView: 2, componentType: 5123, count: 3, type: "SCALAR" },
      ],
      ...extra,
    },
    binary,
  ];
};

test("meshes, transforms, colours, textures", async () => {
  const scene = await parseGlb(glb(...triangle()));
  const [mesh] = scene.meshes;
  assert.deepEqual([...mesh.indices], [0, 1, 2]);
  assert.deepEqual([...mesh.colors], [1, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1]);
  assert.deepEqual([...mesh.normals.slice(0, 3)], [0, 0, 4]);
  assert.deepEqual(
    [scene.minimum, scene.maximum],
    [
      [8, 0, 0],
      [10, 2, 0],
    ],
  );
  assert.equal(mesh.material.flipped, true);
  assert.deepEqual(
    [mesh.material.alpha, mesh.material.texture, mesh.material.color[0]],
    ["BLEND", 0, 0.5],
  );
  assert.equal(Buffer.from(scene.textures[0].bytes).toString(), "png");
});

test("a texture's place is scaled, turned and moved; its picture may lie in the file", async () => {
  const [document, binary] = triangle();
  const uvs = new Float32Array([0, 0, 1, 0, 0, 1]);
  const bytes = Buffer.concat([
    binary,
    Buffer.alloc(2),
    Buffer.from(uvs.buffer),
    Buffer.from("webp"),
  ]);
  document.extensionsRequired = ["KHR_texture_transform", "EXT_texture_webp"];
  document.buffers[0].byteLength = bytes.length;
  document.bufferViews.push(
    { buffer: 0, byteOffset: 56, byteLength: 24 },
    { buffer: 0, byteOffset: 80, byteLength: 4 },
  );
  document.accessors.push({ bufferView: 3, componentType: 5126, count: 3, type: "VEC2" });
  document.meshes[0].primitives[0].attributes.TEXCOORD_1 = 3;
  document.textures = [{ extensions: { EXT_texture_webp: { source: 0 } }, sampler: 0 }];
  document.samplers = [{ wrapS: 33071 }];
  document.images = [{ bufferView: 4, mimeType: "image/webp" }];
  document.materials[0].pbrMetallicRoughness.baseColorTexture = {
    index: 0,
    extensions: {
      KHR_texture_transform: {
        texCoord: 1,
        offset: [0.5, 0.25],
        scale: [2, 4],
        rotation: Math.PI / 2,
      },
    },
  };
  const scene = await parseGlb(glb(document, bytes));
  assert.deepEqual(
    [...scene.meshes[0].uvs].map((value) => Number(value.toFixed(4))),
    [0.5, 0.25, 0.5, -1.75, 4.5, 0.25],
  );
  assert.deepEqual(
    [
      scene.textures[0].type,
      Buffer.from(scene.textures[0].bytes).toString(),
      scene.textures[0].sampler.wrapS,
    ],
    ["image/webp", "webp", 33071],
  );
});

test("what cannot be shown is refused with a sentence", async () => {
  const refuse = async (buffer, pattern) =>
    assert.rejects(parseGlb(buffer), (error) => pattern.test(error.message));
  await refuse(new ArrayBuffer(30), /no GLB/);
  await refuse(glb({ extensionsRequired: ["KHR_draco_mesh_compression"] }), /KHR_draco.*download/);
  await refuse(glb({ meshes: [] }), /no triangles/);
  await refuse(glb(...triangle({ buffers: [] })), /cannot be read/);
  await refuse(
    glb(...triangle({ bufferViews: [{ buffer: 0, byteLength: 360 }] })),
    /cannot be read/,
  );
  const whole = new Uint8Array(glb(...triangle()));
  await refuse(whole.slice(0, whole.length - 8).buffer, /cut off/);
  await refuse(
    glb({ nodes: [{ children: [0, 0, 0], mesh: 0 }], scenes: [{ nodes: [0] }] }),
    /no triangles/,
  );
});

test("strips and fans become triangles", () => {
  const given = Uint32Array.from([0, 1, 2, 3]);
  assert.deepEqual([...triangles(given, 5)], [0, 1, 2, 1, 3, 2]);
  assert.deepEqual([...triangles(given, 6)], [0, 1, 2, 0, 2, 3]);
  assert.deepEqual([...triangles(given, 4)], [0, 1, 2]);
  assert.deepEqual([...multiply(IDENTITY, IDENTITY)], [...IDENTITY]);
});
