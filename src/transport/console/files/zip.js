/** An archive of files as they are: pictures and videos are compressed already. */

const table = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

/** @param {Uint8Array} bytes */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ table[(value ^ byte) & 0xff];
  return (value ^ 0xffffffff) >>> 0;
}

/** @param {number} length @param {[number, number, number][]} fields offset, bytes, value */
function record(length, fields) {
  const view = new DataView(new ArrayBuffer(length));
  for (const [offset, bytes, value] of fields)
    bytes === 2 ? view.setUint16(offset, value, true) : view.setUint32(offset, value, true);
  return new Uint8Array(view.buffer);
}

/**
 * @param {{name: string, content: Blob}[]} files together under 4 GiB
 * @returns {Promise<Blob>}
 */
export async function zip(files) {
  /** @type {BlobPart[]} */
  const parts = [];
  /** @type {BlobPart[]} */
  const directory = [];
  let [offset, size] = [0, 0];
  const encoder = new TextEncoder();
  for (const { name, content } of files) {
    const label = encoder.encode(name);
    const sum = crc32(new Uint8Array(await content.arrayBuffer()));
    /**
     * @type {(at: number) => [number, number, number][]} From the version on the two headers agree.
     */
    const shared = (at) => [
      [at, 2, 20],
      [at + 2, 2, 0x0800],
      [at + 8, 2, 0x21],
      [at + 10, 4, sum],
      [at + 14, 4, content.size],
      [at + 18, 4, content.size],
      [at + 22, 2, label.length],
    ];
    parts.push(record(30, [[0, 4, 0x04034b50], ...shared(4)]), label, content);
    directory.push(
      record(46, [[0, 4, 0x02014b50], [4, 2, 20], ...shared(6), [42, 4, offset]]),
      label,
    );
    offset += 30 + label.length + content.size;
    size += 46 + label.length;
  }
  if (offset > 0xffffffff) throw new Error("more than 4 GiB");
  const end = record(22, [
    [0, 4, 0x06054b50],
    [8, 2, files.length],
    [10, 2, files.length],
    [12, 4, size],
    [16, 4, offset],
  ]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
