/** Where a model is looked at from, and how mouse, fingers and keys change it. */

import { multiply } from "./matrix.js";

/** @param {import("./glb.js").Scene} scene */
export function cameraOf(scene) {
  const center = scene.minimum.map((low, axis) => (low + scene.maximum[axis]) / 2);
  const radius =
    Math.hypot(...scene.minimum.map((low, axis) => scene.maximum[axis] - low)) / 2 || 1;
  let [yaw, pitch, distance] = [0.6, 0.35, 2.6];
  return {
    /** @param {number} x @param {number} y */
    turn(x, y) {
      yaw -= x;
      pitch = Math.min(1.5, Math.max(-1.5, pitch + y));
    },
    /** @param {number} by */
    zoom(by) {
      distance = Math.min(12, Math.max(0.6, distance * by));
    },
    /** @param {number} aspect */
    look(aspect) {
      const away = distance * radius;
      const eye = [
        Math.sin(yaw) * Math.cos(pitch),
        Math.sin(pitch),
        Math.cos(yaw) * Math.cos(pitch),
      ].map((part, axis) => center[axis] + part * away);
      const lens = perspective(0.7, aspect, away / 100, away + radius * 4);
      return { eye, view: multiply(lens, lookAt(eye, center)) };
    },
  };
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ReturnType<typeof cameraOf>} camera
 * @param {() => void} draw
 */
export function steer(canvas, camera, draw) {
  const turn = (/** @type {number} */ x, /** @type {number} */ y) => {
    camera.turn(x, y);
    draw();
  };
  const zoom = (/** @type {number} */ by) => {
    camera.zoom(by);
    draw();
  };
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
    };
    const before = spread();
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (before) zoom(before / Math.max(1, spread()));
    else turn((event.clientX - last.x) / 120, (event.clientY - last.y) / 120);
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) =>
      fingers.delete(/** @type {PointerEvent} */ (event).pointerId),
    );
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.1 : 1 / 1.1);
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: () => turn(0.15, 0),
      ArrowRight: () => turn(-0.15, 0),
      ArrowUp: () => turn(0, 0.15),
      ArrowDown: () => turn(0, -0.15),
      "+": () => zoom(0.9),
      "=": () => zoom(0.9),
      "-": () => zoom(1.1),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
}

/** @param {number} angle @param {number} aspect @param {number} near @param {number} far */
function perspective(angle, aspect, near, far) {
  const f = (1 / Math.tan(angle / 2)) * Math.min(1, aspect);
  return new Float32Array([
    f / aspect,
    0,
    0,
    0,
    0,
    f,
    0,
    0,
    0,
    0,
    (far + near) / (near - far),
    -1,
    0,
    0,
    (2 * far * near) / (near - far),
    0,
  ]);
}

/** @param {number[]} eye @param {number[]} center */
function lookAt(eye, center) {
  const unit = (/** @type {number[]} */ v) => v.map((part) => part / (Math.hypot(...v) || 1));
  const cross = (/** @type {number[]} */ a, /** @type {number[]} */ b) => [
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  ];
  const dot = (/** @type {number[]} */ a, /** @type {number[]} */ b) =>
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const z = unit(eye.map((part, axis) => part - center[axis]));
  const x = unit(cross([0, 1, 0], z));
  const y = cross(z, x);
  return new Float32Array([
    x[0],
    y[0],
    z[0],
    0,
    x[1],
    y[1],
    z[1],
    0,
    x[2],
    y[2],
    z[2],
    0,
    -dot(x, eye),
    -dot(y, eye),
    -dot(z, eye),
    1,
  ]);
}
