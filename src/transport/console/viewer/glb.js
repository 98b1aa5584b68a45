/**
 * Reads GLB files (glTF 2.0 in one file): triangle meshes with their transforms, colours and base
 * colour textures. Compressed geometry is refused with a sentence; the file can still be
 * downloaded.
 */

import { t } from "../i18n.js";
import { bounds, determinant, IDENTITY, local, multiply } from "./matrix.js";

/**
 * @typedef {{
 *   positions: Float32Array,
 *   normals: Float32Array,
 *   uvs: Float32Array | null,
 *   colors: Float32Array | null,
 *   indices: Uint32Array,
 *   matrix: Float32Array,
 *   material: Material,
 * }} Mesh
 */
/**
 * @typedef {{
 *   color: number[],
 *   texture: number | null,
 *   doubleSided: boolean,
 *   alpha: "OPAQUE" | "MASK" | "BLEND",
 *   cutoff: number,
 *   emissive: number[],
 *   flipped?: boolean,
 * }} Material
 */
/**
 * @typedef {{
 *   meshes: Mesh[],
 *   textures: {bytes: Uint8Array, type: string, sampler: any}[],
 *   minimum: number[],
 *   maximum: number[],
 * }} Scene
 */

const SIZES = /** @type {Record<number, number>} */ ({
  5120: 1,
  5121: 1,
  5122: 2,
  5123: 2,
  5125: 4,
  5126: 4,
});
const WIDTHS = /** @type {Record<string, number>} */ ({
  SCALAR: 1,
  VEC2: 2,
  VEC3: 3,
  VEC4: 4,
  MAT4: 16,
});
const MOST_VERTICES = 5_000_000;
const MOST_NODES = 100_000;
const KNOWN = new Set([
  "KHR_mesh_quantization",
  "KHR_materials_unlit",
  "KHR_texture_transform",
  "KHR_materials_specular",
  "KHR_materials_ior",
  "KHR_materials_emissive_strength",
  "KHR_materials_clearcoat",
  "KHR_materials_sheen",
  "KHR_materials_transmission",
  "KHR_materials_volume",
  "KHR_lights_punctual",
  "KHR_materials_pbrSpecularGlossiness",
  "EXT_texture_webp",
]);

/** @param {ArrayBuffer} buffer @returns {Promise<Scene>} */
export async function parseGlb(buffer) {
  const { document, binary } = chunks(buffer);
  const foreign = (document.extensionsRequired ?? []).filter(
    (/** @type {string} */ name) => !KNOWN.has(name),
  );
  if (foreign.length)
    throw new Error(
      t("This model needs {names}, which cannot be shown here: download it.", {
        names: foreign.join(", "),
      }),
    );
  const reader = new Reader(document, binary);
  /** @type {Mesh[]} */
  const meshes = [];
  const roots =
    document.scenes?.[document.scene ?? 0]?.nodes ??
    (document.nodes ?? []).map((/** @type {any} */ _, /** @type {number} */ index) => index);
  let [vertices, visits] = [0, 0];
  /** @param {number} index @param {Float32Array} parent @param {number} depth */
  const visit = (index, parent, depth) => {
    const node = document.nodes?.[index];
    visits += 1;
    // A node may be its own child, and twice.
    if (!node || depth > 64 || visits > MOST_NODES) return;
    const matrix = multiply(parent, local(node));
    for (const primitive of document.meshes?.[node.mesh]?.primitives ?? []) {
      const mesh = reader.mesh(primitive, matrix);
      if (!mesh) continue;
      vertices += mesh.positions.length / 3;
      if (vertices > MOST_VERTICES)
        throw new Error(t("This model is too large to be shown here: download it."));
      meshes.push(mesh);
    }
    for (const child of node.children ?? []) visit(child, matrix, depth + 1);
  };
  for (const root of roots) visit(root, IDENTITY, 0);
  if (!meshes.length) throw new Error(t("There are no triangles in this model."));
  return { meshes, textures: reader.textures(), ...bounds(meshes) };
}

/** @param {ArrayBuffer} buffer */
function chunks(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 20 || view.getUint32(0, true) !== 0x46546c67)
    throw new Error(t("This is no GLB file."));
  if (view.getUint32(4, true) !== 2)
    throw new Error(t("Only version 2 of glTF can be shown here."));
  let [offset, document, binary] = [12, /** @type {any} */ (null), new Uint8Array()];
  while (offset + 8 <= buffer.byteLength) {
    const [length, type] = [view.getUint32(offset, true), view.getUint32(offset + 4, true)];
    if (offset + 8 + length > buffer.byteLength) throw new Error(t("This GLB file is cut off."));
    const bytes = new Uint8Array(buffer, offset + 8, length);
    if (type === 0x4e4f534a) document = JSON.parse(new TextDecoder().decode(bytes));
    else if (type === 0x004e4942) binary = bytes;
    offset += 8 + length + ((4 - (length % 4)) % 4);
  }
  if (!document) throw new Error(t("This model cannot be read: download it."));
  return { document, binary };
}

class Reader {
  /** @param {any} document @param {Uint8Array} binary */
  constructor(document, binary) {
    this.document = document;
    this.binary = binary;
    /** @type {Map<number, Uint8Array>} */
    this.buffers = new Map();
  }

  /** @param {number} index @returns {Uint8Array} */
  buffer(index) {
    const known = this.buffers.get(index);
    if (known) return known;
    const entry = this.document.buffers?.[index];
    if (!entry) throw new Error(t("This model cannot be read: download it."));
    const bytes = entry.uri === undefined ? this.binary : dataUri(entry.uri);
    this.buffers.set(index, bytes);
    return bytes;
  }

  /** @param {number} index */
  view(index) {
    const view = this.document.bufferViews?.[index];
    if (!view) throw new Error(t("This model cannot be read: download it."));
    const bytes = this.buffer(view.buffer);
    const [from, length] = [view.byteOffset ?? 0, view.byteLength];
    if (from + length > bytes.byteLength)
      throw new Error(t("This model cannot be read: download it."));
    return { bytes: bytes.subarray(from, from + length), stride: view.byteStride ?? 0 };
  }

  /** @param {number} index @returns {{values: Float32Array, width: number, count: number}} */
  accessor(index) {
    const accessor = this.document.accessors?.[index];
    if (!accessor || !WIDTHS[accessor.type] || !SIZES[accessor.componentType])
      throw new Error(t("This model cannot be read: download it."));
    const width = WIDTHS[accessor.type];
    if (accessor.count > MOST_VERTICES * 3)
      throw new Error(t("This model is too large to be shown here: download it."));
    const values = new Float32Array(accessor.count * width);
    if (accessor.bufferView !== undefined) this.#read(accessor, values, width);
    if (accessor.sparse) this.#scatter(accessor, values, width);
    return { values, width, count: accessor.count };
  }

  /** @param {any} accessor @param {Float32Array} values @param {number} width */
  #read(accessor, values, width) {
    const { bytes, stride } = this.view(accessor.bufferView);
    const size = SIZES[accessor.componentType];
    const step = stride || size * width;
    const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const get = component(data, accessor.componentType, accessor.normalized);
    for (let row = 0; row < accessor.count; row += 1) {
      const at = (accessor.byteOffset ?? 0) + row * step;
      for (let column = 0; column < width; column += 1)
        values[row * width + column] = get(at + column * size);
    }
  }

  /** @param {any} accessor @param {Float32Array} values @param {number} width */
  #scatter(accessor, values, width) {
    const { count, indices, values: own } = accessor.sparse;
    const where = new Float32Array(count);
    this.#read({ ...indices, count, componentType: indices.componentType }, where, 1);
    const what = new Float32Array(count * width);
    this.#read(
      { ...own, count, componentType: accessor.componentType, normalized: accessor.normalized },
      what,
      width,
    );
    for (let index = 0; index < count; index += 1)
      values.set(what.subarray(index * width, (index + 1) * width), where[index] * width);
  }

  /** @param {any} primitive @param {Float32Array} matrix @returns {Mesh | null} */
  mesh(primitive, matrix) {
    const mode = primitive.mode ?? 4;
    if (mode < 4 || primitive.attributes?.POSITION === undefined) return null;
    if (primitive.extensions?.KHR_draco_mesh_compression)
      throw new Error(
        t("The geometry of this model is compressed, which cannot be shown here: download it."),
      );
    const positions = this.accessor(primitive.attributes.POSITION).values;
    const count = positions.length / 3;
    const given =
      primitive.indices === undefined
        ? Uint32Array.from({ length: count }, (_, index) => index)
        : Uint32Array.from(this.accessor(primitive.indices).values);
    const indices = triangles(given, mode);
    if (indices.some((index) => index >= count))
      throw new Error(t("This model cannot be read: download it."));
    const optional = (/** @type {string} */ name) =>
      primitive.attributes[name] === undefined ? null : this.accessor(primitive.attributes[name]);
    const colors = optional("COLOR_0");
    const material = this.material(primitive.material);
    const normals = optional("NORMAL")?.values ?? smooth(positions, indices);
    return {
      positions,
      indices,
      matrix,
      normals,
      uvs: placed(optional(`TEXCOORD_${material.set}`)?.values ?? null, material.transform),
      colors: colors ? fourWide(colors.values, colors.width) : null,
      material: { ...material, flipped: determinant(matrix) < 0 },
    };
  }

  /** @param {number | undefined} index @returns {Material & {set: number, transform: any}} */
  material(index) {
    const entry = index === undefined ? {} : (this.document.materials?.[index] ?? {});
    const base = entry.pbrMetallicRoughness ?? {};
    const glossy = entry.extensions?.KHR_materials_pbrSpecularGlossiness;
    const texture = base.baseColorTexture ?? glossy?.diffuseTexture;
    const transform = texture?.extensions?.KHR_texture_transform;
    return {
      color: base.baseColorFactor ?? glossy?.diffuseFactor ?? [1, 1, 1, 1],
      texture: texture?.index ?? null,
      set: transform?.texCoord ?? texture?.texCoord ?? 0,
      transform,
      doubleSided: entry.doubleSided ?? false,
      alpha: entry.alphaMode ?? "OPAQUE",
      cutoff: entry.alphaCutoff ?? 0.5,
      emissive: entry.emissiveFactor ?? [0, 0, 0],
    };
  }

  textures() {
    return (this.document.textures ?? []).map((/** @type {any} */ texture) => {
      const image =
        this.document.images?.[texture.source ?? texture.extensions?.EXT_texture_webp?.source] ??
        {};
      const bytes =
        image.bufferView !== undefined
          ? this.view(image.bufferView).bytes
          : image.uri?.startsWith("data:")
            ? dataUri(image.uri)
            : new Uint8Array();
      return {
        bytes,
        type: image.mimeType ?? "image/png",
        sampler: this.document.samplers?.[texture.sampler] ?? {},
      };
    });
  }
}

/**
 * @param {DataView} data
 * @param {number} type
 * @param {boolean} normalized
 * @returns {(offset: number) => number}
 */
function component(data, type, normalized) {
  const scale = (/** @type {(at: number) => number} */ get, /** @type {number} */ most) =>
    normalized ? (/** @type {number} */ at) => Math.max(get(at) / most, -1) : get;
  switch (type) {
    case 5120:
      return scale((at) => data.getInt8(at), 127);
    case 5121:
      return scale((at) => data.getUint8(at), 255);
    case 5122:
      return scale((at) => data.getInt16(at, true), 32767);
    case 5123:
      return scale((at) => data.getUint16(at, true), 65535);
    case 5125:
      return (at) => data.getUint32(at, true);
    default:
      return (at) => data.getFloat32(at, true);
  }
}

/** Lists, strips and fans as a list. @param {Uint32Array} given @param {number} mode */
export function triangles(given, mode) {
  if (mode === 4) return given.subarray(0, given.length - (given.length % 3));
  const result = new Uint32Array(Math.max(0, given.length - 2) * 3);
  for (let index = 0; index + 2 < given.length; index += 1) {
    const odd = index % 2;
    const corners =
      mode === 5 ? [index, index + 1 + odd, index + 2 - odd] : [0, index + 1, index + 2];
    corners.forEach((corner, place) => {
      result[index * 3 + place] = given[corner];
    });
  }
  return result;
}

/** @param {Float32Array} positions @param {Uint32Array} indices */
function smooth(positions, indices) {
  const normals = new Float32Array(positions.length);
  for (let index = 0; index < indices.length; index += 3) {
    const [a, b, c] = [indices[index] * 3, indices[index + 1] * 3, indices[index + 2] * 3];
    const [ux, uy, uz] = [
      positions[b] - positions[a],
      positions[b + 1] - positions[a + 1],
      positions[b + 2] - positions[a + 2],
    ];
    const [vx, vy, vz] = [
      positions[c] - positions[a],
      positions[c + 1] - positions[a + 1],
      positions[c + 2] - positions[a + 2],
    ];
    const [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const corner of [a, b, c]) {
      normals[corner] += x;
      normals[corner + 1] += y;
      normals[corner + 2] += z;
    }
  }
  return normals; // the shader makes them one long
}

/** @param {Float32Array} values @param {number} width */
function fourWide(values, width) {
  if (width === 4) return values;
  const result = new Float32Array((values.length / width) * 4).fill(1);
  for (let row = 0; row < values.length / width; row += 1)
    result.set(values.subarray(row * width, row * width + 3), row * 4);
  return result;
}

/**
 * Where a part of a texture is used: scaled, turned, moved (KHR_texture_transform).
 * @param {Float32Array | null} uvs
 * @param {any} transform
 */
function placed(uvs, transform) {
  if (!uvs || !transform) return uvs;
  const { offset: [left, top] = [0, 0], rotation = 0, scale: [wide, high] = [1, 1] } = transform;
  const [sin, cos] = [Math.sin(rotation), Math.cos(rotation)];
  const result = new Float32Array(uvs.length);
  for (let index = 0; index + 1 < uvs.length; index += 2) {
    const [u, v] = [uvs[index] * wide, uvs[index + 1] * high];
    result[index] = cos * u + sin * v + left;
    result[index + 1] = cos * v - sin * u + top;
  }
  return result;
}

/** @param {string} uri */
function dataUri(uri) {
  const found = /^data:[^,]*;base64,/.exec(uri);
  if (!found) throw new Error(t("This model cannot be read: download it."));
  return Uint8Array.from(atob(uri.slice(found[0].length)), (letter) => letter.charCodeAt(0));
}
