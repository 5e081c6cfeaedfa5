"use strict";
// Files: what stands in the page as base64 of .nii.gz, NIfTI-1, and a .zip for several downloads at once.
const files = (() => {
  const VOXELS = {
    2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array, 256: Int8Array, 512: Uint16Array,
    768: Uint32Array, 1024: BigInt64Array, 1280: BigUint64Array,
  };

  async function through(bytes, stream) {
    return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
  }
  const gunzip = (bytes) => through(bytes, new DecompressionStream("gzip"));
  const gzip = (bytes) => through(bytes, new CompressionStream("gzip"));

  /** Bytes of the file that stands in the element. */
  function embedded(id) {
    const text = document.getElementById(id).textContent.trim();
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  /** Head (all before the voxels), shape, and the voxels as they lie in the file, x fastest. */
  function nifti(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const kind = VOXELS[view.getInt16(70, true)];
    if (!kind) throw new Error(`voxels of kind ${view.getInt16(70, true)} are not known`);
    const offset = view.getFloat32(108, true);
    const shape = [1, 2, 3].map((k) => view.getInt16(40 + 2 * k, true));
    const count = shape[0] * shape[1] * shape[2];
    const data = bytes.slice(offset, offset + count * kind.BYTES_PER_ELEMENT); // a copy begins where any kind may begin
    const spacing = [1, 2, 3].map((k) => Math.abs(view.getFloat32(76 + 4 * k, true)) || 1);
    return { head: bytes.slice(0, offset), shape, spacing, voxels: new kind(data.buffer) };
  }

  const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n >>> 0;
  });
  function crc32(bytes) {
    let crc = 0xffffffff;
    for (let i = 0; i < bytes.length; i += 1) crc = TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
    return (crc ^ 0xffffffff) >>> 0;
  }

  /** A .zip (PKWARE's APPNOTE 6.3, nothing packed) of [name, bytes] pairs; names are written as UTF-8. */
  function zip(entries) {
    const parts = [], central = [];
    let at = 0;
    const numbers = (list) => { // pairs of bytes and value
      const out = new DataView(new ArrayBuffer(list.reduce((sum, [size]) => sum + size, 0)));
      let place = 0;
      for (const [size, value] of list) {
        if (size === 2) out.setUint16(place, value, true); else out.setUint32(place, value, true);
        place += size;
      }
      return new Uint8Array(out.buffer);
    };
    for (const [name, bytes] of entries) {
      const text = new TextEncoder().encode(name);
      const same = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, text.length], [2, 0]];
      const local = numbers([[4, 0x04034b50], ...same]);
      central.push(numbers([[4, 0x02014b50], [2, 20], ...same, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]]), text);
      parts.push(local, text, bytes);
      at += local.length + text.length + bytes.length;
    }
    const size = central.reduce((sum, part) => sum + part.length, 0);
    const end = numbers([[4, 0x06054b50], [2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, size], [4, at], [2, 0]]);
    return new Blob([...parts, ...central, end], { type: "application/zip" });
  }

  function download(name, blob) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  return { embedded, gunzip, gzip, nifti, zip, download };
})();
