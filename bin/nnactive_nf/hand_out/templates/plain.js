"use strict";
// The viewer without a pen, where NiiVue is missing or the browser has no WebGL 2: slices as they lie in the file.
function plainViewer({ canvas, overlay, classes, moved, windowed }) {
  const DIRECTIONS = { L: "R", R: "L", A: "P", P: "A", S: "I", I: "S" };
  let images = [], channel = 0, uncertainty = null, box = null, values = null, at = null, axis = 2, range = [0, 1], axes = null;
  const opacity = { labels: 0.6, uncertainty: 0 };
  const number = (image, ijk) => { const [nx, ny] = image.shape; return Number(image.voxels[ijk[0] + nx * (ijk[1] + ny * ijk[2])]); };
  const mix = (colour, tint, weight) => colour.map((c, k) => (1 - weight) * c + weight * tint[k]);
  const hex = (text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));
  const tints = classes.map((one) => hex(one.colour));

  function colourAt(ijk) {
    const grey = Math.min(255, Math.max(0, 255 * (number(images[channel], ijk) - range[0]) / (range[1] - range[0] || 1)));
    let colour = [grey, grey, grey];
    if (uncertainty && opacity.uncertainty) colour = mix(colour, [255, 140, 0], opacity.uncertainty * Math.min(1, number(uncertainty, ijk) / uncertainty.highest));
    if (labels.inside(box, ijk)) {
      const size = labels.sizeOf(box), [x, y, z] = ijk.map((v, k) => v - box.low[k]);
      const index = values[x + size[0] * (y + size[1] * z)];
      if (index) colour = mix(colour, tints[index], opacity.labels);
    }
    return colour;
  }
  function draw() {
    if (!box) return;
    const [u, v] = [0, 1, 2].filter((k) => k !== axis), { shape, spacing } = images[channel];
    const small = new OffscreenCanvas(shape[u], shape[v]), context = small.getContext("2d");
    const pixels = context.createImageData(shape[u], shape[v]);
    const ijk = [...at];
    for (let b = 0, i = 0; b < shape[v]; b += 1) for (let a = 0; a < shape[u]; a += 1, i += 4) {
      ijk[u] = a;
      ijk[v] = b;
      pixels.data.set([...colourAt(ijk), 255], i);
    }
    context.putImageData(pixels, 0, 0);
    const scale = Math.min(canvas.clientWidth / (shape[u] * spacing[u]), canvas.clientHeight / (shape[v] * spacing[v]));
    for (const one of [canvas, overlay]) Object.assign(one, { width: canvas.clientWidth, height: canvas.clientHeight });
    const [width, height] = [shape[u] * spacing[u] * scale, shape[v] * spacing[v] * scale];
    const left = (canvas.width - width) / 2, top = (canvas.height - height) / 2, view = canvas.getContext("2d");
    view.imageSmoothingEnabled = false;
    view.drawImage(small, left, top, width, height);
    view.strokeStyle = "#00e5ff";
    view.setLineDash(at[axis] >= box.low[axis] && at[axis] < box.high[axis] ? [] : [5, 5]);
    const [dx, dy] = [width / shape[u], height / shape[v]];
    view.strokeRect(left + box.low[u] * dx, top + box.low[v] * dy, (box.high[u] - box.low[u]) * dx, (box.high[v] - box.low[v]) * dy);
    view.setLineDash([]);
    Object.assign(view, { font: "600 15px system-ui, sans-serif", textBaseline: "middle", textAlign: "center", fillStyle: "#e6edf3", strokeStyle: "#000", lineWidth: 3 });
    for (const [text, x, y] of [[DIRECTIONS[axes[u]], left + 12, top + height / 2], [axes[u], left + width - 12, top + height / 2], [DIRECTIONS[axes[v]], left + width / 2, top + 12], [axes[v], left + width / 2, top + height - 12]]) {
      view.strokeText(text, x, y);
      view.fillText(text, x, y);
    }
    moved(at, number(images[channel], at), uncertainty ? number(uncertainty, at) : null);
  }
  const finite = (voxels) => Array.from(voxels.length > 20000 ? voxels.filter((_, i) => i % Math.ceil(voxels.length / 20000) === 0) : voxels, Number).filter(Number.isFinite).sort((a, b) => a - b);
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); viewer.step(Math.sign(event.deltaY)); }, { passive: false });
  window.addEventListener("resize", draw);

  const viewer = {
    canDraw: false,
    async open(given) {
      box = null;
      axes = given.axes;
      images = given.channels.map(files.nifti);
      uncertainty = given.uncertainty && files.nifti(given.uncertainty);
      if (uncertainty) uncertainty.highest = uncertainty.voxels.reduce((a, b) => Math.max(a, b), 1e-9);
      channel = 0;
    },
    show(patch, theirs) {
      [box, values] = [patch, theirs];
      at = box.low.map((low, k) => Math.floor((low + box.high[k] - 1) / 2));
      viewer.autoWindow();
    },
    write(theirs) { values = theirs; draw(); },
    step(by) {
      at[axis] = Math.min(images[channel].shape[axis] - 1, Math.max(0, at[axis] + by));
      draw();
    },
    setView(name) { axis = { axial: "SI", coronal: "AP", sagittal: "LR" }[name] ? axes.findIndex((one) => ({ axial: "SI", coronal: "AP", sagittal: "LR" })[name].includes(one)) : 2; draw(); },
    setOpacity(name, value) { opacity[name] = value; draw(); },
    setChannel(k) { channel = k; viewer.autoWindow(); },
    setWindow(low, high) { range = [low, high]; draw(); },
    autoWindow() {
      const sorted = finite(images[channel].voxels);
      range = [sorted[Math.floor(0.02 * sorted.length)], sorted[Math.floor(0.98 * (sorted.length - 1))]];
      windowed(...range);
      draw();
    },
    get axis() { return axis; },
    goTo(ijk) { at = ijk; draw(); },
    setTool() {}, lock() {}, fit() { viewer.goTo(box.low.map((low, k) => Math.floor((low + box.high[k] - 1) / 2))); }, zoomBy() {},
  };
  return viewer;
}
