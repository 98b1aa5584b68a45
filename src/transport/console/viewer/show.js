/**
 * Shows a model that can be turned: by mouse, finger or keys. Draws only when something has
 * changed.
 */

import { h } from "../kernel.js";
import { t } from "../i18n.js";
import { cameraOf, steer } from "./camera.js";
import { IDENTITY } from "./matrix.js";

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec2 uv; in vec4 color;
uniform mat4 view; uniform mat4 model;
out vec3 n; out vec2 st; out vec4 tint; out vec3 place;
void main() {
  vec4 world = model * vec4(position, 1.0);
  gl_Position = view * world;
  n = transpose(inverse(mat3(model))) * normal;
  st = uv; tint = color; place = world.xyz;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in vec2 st; in vec4 tint; in vec3 place;
uniform vec4 base; uniform vec3 glow; uniform sampler2D image;
uniform float cutoff; uniform vec3 eye;
out vec4 result;
void main() {
  vec4 sampled = texture(image, st);
  vec4 color = base * tint * vec4(pow(sampled.rgb, vec3(2.2)), sampled.a);
  if (color.a < cutoff) discard;
  vec3 toward = normalize(eye - place);
  vec3 unit = length(n) > 0.0 ? normalize(n) : toward;
  if (dot(unit, toward) < 0.0) unit = -unit;
  float key = max(dot(unit, normalize(toward + vec3(0.5, 0.8, 0.3))), 0.0);
  float sky = 0.5 + 0.5 * unit.y;
  vec3 lit = color.rgb * (0.75 * key + 0.35 * sky + 0.12) + glow;
  result = vec4(pow(lit, vec3(1.0 / 2.2)), color.a);
}`;

/**
 * @param {import("./glb.js").Scene} scene
 * @param {string} name
 * @returns {{element: Element, end: () => void}}
 */
export function show(scene, name) {
  const canvas = h("canvas", {
    tabindex: "0",
    role: "img",
    "aria-label": name,
    title: t("Drag to turn, wheel to zoom; arrow keys, + and − do the same"),
  });
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl) throw new Error(t("This browser cannot show 3D models (WebGL 2 is off): download it."));
  const program = link(gl);
  const places = placesOf(gl, program);
  const white = texture(gl, null, {});
  const textures = loadTextures(gl, scene, white, () => draw());
  const meshes = scene.meshes.map((mesh) => ({ mesh, ...load(gl, program, mesh) }));
  // What can be seen through comes last.
  meshes.sort(
    (a, b) => Number(a.mesh.material.alpha === "BLEND") - Number(b.mesh.material.alpha === "BLEND"),
  );
  const camera = cameraOf(scene);
  let waiting = 0;
  const draw = () => {
    waiting ||= requestAnimationFrame(paint);
  };
  function paint() {
    waiting = 0;
    if (!gl || gl.isContextLost()) return;
    const aspect = clear(gl, canvas);
    gl.useProgram(program);
    const { eye, view } = camera.look(aspect);
    gl.uniformMatrix4fv(places.view, false, view);
    gl.uniform3fv(places.eye, eye);
    gl.uniform1i(places.image, 0);
    for (const one of meshes) {
      const { texture: index } = one.mesh.material;
      drawMesh(gl, places, one, index === null ? white : (textures[index] ?? white));
    }
    canvas.dataset.drawn = "true";
  }
  steer(canvas, camera, draw);
  const watcher = new ResizeObserver(draw);
  watcher.observe(canvas);
  draw();
  return {
    element: canvas,
    end() {
      watcher.disconnect();
      cancelAnimationFrame(waiting);
      gl.getExtension("WEBGL_lose_context")?.loseContext(); // the browser has only a few
    },
  };
}

/**
 * Where the values of a program go.
 * @param {WebGL2RenderingContext} gl
 * @param {WebGLProgram} program
 */
function placesOf(gl, program) {
  const uniform = (/** @type {string} */ key) => gl.getUniformLocation(program, key);
  return {
    view: uniform("view"),
    model: uniform("model"),
    base: uniform("base"),
    glow: uniform("glow"),
    cutoff: uniform("cutoff"),
    eye: uniform("eye"),
    image: uniform("image"),
  };
}

/**
 * The textures of a scene, each white until it is there.
 * @param {WebGL2RenderingContext} gl
 * @param {import("./glb.js").Scene} scene
 * @param {WebGLTexture} white
 * @param {() => void} arrived
 */
function loadTextures(gl, scene, white, arrived) {
  const textures = scene.textures.map(() => white);
  scene.textures.forEach((one, index) => {
    createImageBitmap(new Blob([/** @type {any} */ (one.bytes)], { type: one.type }), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    }).then(
      (bitmap) => {
        textures[index] = texture(gl, bitmap, one.sampler);
        bitmap.close();
        arrived();
      },
      () => {},
    );
  });
  return textures;
}

/**
 * An empty picture, as large as its place.
 * @param {WebGL2RenderingContext} gl
 * @param {HTMLCanvasElement} canvas
 * @returns {number} width by height
 */
function clear(gl, canvas) {
  const ratio = Math.min(2, devicePixelRatio || 1);
  const [width, height] = [
    Math.max(1, Math.round(canvas.clientWidth * ratio)),
    Math.max(1, Math.round(canvas.clientHeight * ratio)),
  ];
  if (canvas.width !== width || canvas.height !== height)
    [canvas.width, canvas.height] = [width, height];
  gl.viewport(0, 0, width, height);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST);
  return width / height;
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {ReturnType<typeof placesOf>} places
 * @param {{
 *   mesh: import("./glb.js").Mesh,
 *   array: WebGLVertexArrayObject,
 *   count: number,
 * }} one
 * @param {WebGLTexture} image
 */
function drawMesh(gl, places, { mesh, array, count }, image) {
  const { material } = mesh;
  gl.uniformMatrix4fv(places.model, false, mesh.matrix ?? IDENTITY);
  gl.uniform4fv(places.base, material.color);
  gl.uniform3fv(places.glow, material.texture === null ? material.emissive : [0, 0, 0]);
  gl.uniform1f(places.cutoff, material.alpha === "MASK" ? material.cutoff : 0);
  gl.bindTexture(gl.TEXTURE_2D, image);
  material.doubleSided ? gl.disable(gl.CULL_FACE) : gl.enable(gl.CULL_FACE);
  gl.frontFace(material.flipped ? gl.CW : gl.CCW);
  if (material.alpha === "BLEND") {
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  } else {
    gl.disable(gl.BLEND);
  }
  gl.bindVertexArray(array);
  gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
}

/** @param {WebGL2RenderingContext} gl */
function link(gl) {
  const program = gl.createProgram();
  for (const [kind, text] of /** @type {[number, string][]} */ ([
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ])) {
    const shader = /** @type {WebGLShader} */ (gl.createShader(kind));
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS))
      throw new Error(gl.getShaderInfoLog(shader) ?? "shader");
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return program;
}

/**
 * @param {WebGL2RenderingContext} gl
 * @param {WebGLProgram} program
 * @param {import("./glb.js").Mesh} mesh
 */
function load(gl, program, mesh) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  const attribute = (
    /** @type {string} */ name,
    /** @type {Float32Array | null} */ values,
    /** @type {number} */ width,
    /** @type {number[]} */ otherwise,
  ) => {
    const place = gl.getAttribLocation(program, name);
    if (place < 0) return;
    if (!values) {
      gl.vertexAttrib4fv(place, otherwise);
      return;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, gl.FLOAT, false, 0, 0);
  };
  attribute("position", mesh.positions, 3, [0, 0, 0, 1]);
  attribute("normal", mesh.normals, 3, [0, 0, 0, 0]);
  attribute("uv", mesh.uvs, 2, [0, 0, 0, 0]);
  attribute(
    "color",
    mesh.colors ?? new Float32Array((mesh.positions.length / 3) * 4).fill(1),
    4,
    [1, 1, 1, 1],
  );
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.indices, gl.STATIC_DRAW);
  return { array, count: mesh.indices.length };
}

/** @param {WebGL2RenderingContext} gl @param {ImageBitmap | null} bitmap @param {any} sampler */
function texture(gl, bitmap, sampler) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  if (!bitmap) {
    gl.texImage2D(
      gl.TEXTURE_2D,
      0,
      gl.RGBA,
      1,
      1,
      0,
      gl.RGBA,
      gl.UNSIGNED_BYTE,
      new Uint8Array([255, 255, 255, 255]),
    );
    return made;
  }
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, sampler.wrapS ?? gl.REPEAT);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, sampler.wrapT ?? gl.REPEAT);
  gl.texParameteri(
    gl.TEXTURE_2D,
    gl.TEXTURE_MIN_FILTER,
    sampler.minFilter ?? gl.LINEAR_MIPMAP_LINEAR,
  );
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, sampler.magFilter ?? gl.LINEAR);
  return made;
}
