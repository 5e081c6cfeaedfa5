"use strict";
// The viewer with a pen: NiiVue shows and draws, all that is kept is read out of its drawing and clipped to the patch.
//
// NiiVue's drawing lies in an order of its own, axes turned and flipped to right, anterior, superior ("RAS" below). Which
// file axis is which of its axes, and which way round, is its `permRAS`. Everything else here speaks of the file's indices.
async function niivueViewer({ canvas, overlay, classes, changed, moved, windowed }) {
  const { Niivue, NVImage } = niivue;
  const MORE_IS_DENSER = 1; // the colormapType for which 0.69.0 makes opacity (value / cal_min)²
  const PLANES = { axial: 0, coronal: 1, sagittal: 2 }; // NiiVue's slice types, by the RAS axis that they cut: 2 - type
  const nv = new Niivue({
    isRadiologicalConvention: true, dragAndDropEnabled: false, crosshairWidth: 0, backColor: [0, 0, 0, 1], logLevel: "silent",
    clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", isOrientationTextVisible: false, loadingText: "",
  });
  await nv.attachToCanvas(canvas);
  const rgb = (k) => classes.map((one) => parseInt(one.colour.slice(1 + 2 * k, 3 + 2 * k), 16));
  const ids = classes.map((_, index) => index);
  nv.setDrawColormap({ R: rgb(0), G: rgb(1), B: rgb(2), A: ids.map((index) => (index ? 255 : 0)), I: ids, labels: classes.map((one) => one.name) });

  let images = [], uncertainty = null, box = null, others = [], frame = null, axes = null, layout = null, shape = null;
  let tool = "move", index = 1, axis = 2, mode = "planes", isLocked = false;
  const opacity = { labels: 0.6, uncertainty: 0 };

  // ---- order of voxels ---------------------------------------------------------------------------------------------
  /** For each file axis: the RAS axis that it is, whether it runs the other way, and its length. */
  function orient(image) {
    shape = [1, 2, 3].map((k) => image.hdr.dims[k]);
    axes = [null, null, null];
    image.permRAS.forEach((signed, ras) => { axes[Math.abs(signed) - 1] = { ras, flip: signed < 0, n: shape[Math.abs(signed) - 1] }; });
    const dims = image.dimsRAS.slice(1, 4), steps = [1, dims[0], dims[0] * dims[1]];
    layout = {
      start: axes.reduce((sum, one) => sum + (one.flip ? (one.n - 1) * steps[one.ras] : 0), 0),
      strides: axes.map((one) => (one.flip ? -1 : 1) * steps[one.ras]),
    };
  }
  function toRas(ijk) {
    const ras = [0, 0, 0];
    axes.forEach((one, k) => { ras[one.ras] = one.flip ? one.n - 1 - ijk[k] : ijk[k]; });
    return ras;
  }
  const toIjk = (ras) => axes.map((one) => (one.flip ? one.n - 1 - ras[one.ras] : ras[one.ras]));
  /** Fraction of the volume, in RAS order, of a place in the file's continuous indices; a voxel's middle is 0.5 more. */
  function toFrac(place) {
    const frac = [0, 0, 0];
    axes.forEach((one, k) => { frac[one.ras] = one.flip ? 1 - place[k] / one.n : place[k] / one.n; });
    return frac;
  }
  const middle = (ijk) => toFrac(ijk.map((v) => v + 0.5));
  const fileAxis = (type) => axes.findIndex((one) => one.ras === 2 - type);

  // ---- drawing -----------------------------------------------------------------------------------------------------
  const read = () => labels.cut(nv.drawBitmap, box, layout);
  function put(values) {
    nv.drawBitmap.set(frame);
    labels.paste(nv.drawBitmap, box, layout, values);
  }
  const upload = nv.refreshDrawing.bind(nv);
  nv.refreshDrawing = (...how) => { // all that NiiVue draws comes by here on its way to the screen
    if (box && nv.drawBitmap?.length === frame.length) put(read());
    upload(...how);
  };
  const line = nv.drawPenLine.bind(nv);
  nv.drawPenLine = (to, from, value) => line(from, to, value); // its line leaves out the first point: that is drawn
  nv.drawAddUndoBitmap = () => {}; // the page undoes by itself, patch by patch
  const commit = () => { if (box && !isLocked) changed(read()); };
  canvas.addEventListener("mouseleave", commit);
  for (const kind of ["mouseup", "touchend"]) window.addEventListener(kind, commit); // after NiiVue, which listens on the canvas

  // ---- where things are on the screen ------------------------------------------------------------------------------
  const ratio = () => nv.uiData.dpr || 1;
  /** Place on the canvas, in its pixels, of a fraction of the volume in a slice's tile. */
  function onTile(tile, frac) {
    const [left, top, width, height] = tile.leftTopWidthHeight;
    const mm = nv.frac2mm(frac), [u, v] = [[0, 1], [0, 2], [1, 2]][tile.axCorSag];
    const [across, up] = [u, v].map((k, i) => (mm[k] - tile.leftTopMM[i]) / tile.fovMM[i]);
    return [left + across * width, top + (1 - up) * height];
  }
  const isSlice = (tile) => tile.axCorSag <= 2;
  const pivot = nv.setPivot3D.bind(nv);
  nv.setPivot3D = () => { // 3D turns round the patch, not round the image
    pivot();
    if (!box) return;
    const corners = [box.low, box.high].map((corner) => nv.frac2mm(toFrac(corner), 0, true));
    nv.pivot3D = [0, 1, 2].map((k) => (corners[0][k] + corners[1][k]) / 2);
    nv.furthestFromPivot = Math.hypot(...[0, 1, 2].map((k) => corners[0][k] - corners[1][k])) * 0.65; // half of it, and room beside
  };
  function drawSlice(pen, tile, at) {
    const across = fileAxis(tile.axCorSag);
    for (const [one, colour] of [...others.map((other) => [other, "#8fa3b3"]), [box, "#00e5ff"]]) {
      const [p, q] = [one.low, one.high].map((corner) => onTile(tile, toFrac(corner)));
      const here = at[across] >= one.low[across] && at[across] < one.high[across];
      if (!here && one !== box) continue;
      pen.strokeStyle = colour;
      pen.setLineDash(here ? [] : [5 * ratio(), 5 * ratio()]);
      pen.strokeRect(p[0], p[1], q[0] - p[0], q[1] - p[1]);
    }
    pen.setLineDash([]);
    pen.lineWidth = ratio();
    pen.strokeStyle = "rgba(255, 255, 255, 0.45)";
    const [x, y] = onTile(tile, nv.scene.crosshairPos), gap = 9 * ratio();
    pen.beginPath();
    for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, overlay.width, y], [x, 0, x, y - gap], [x, y + gap, x, overlay.height]]) { pen.moveTo(a, b); pen.lineTo(c, d); }
    pen.stroke();
    const [left, top, width, height] = tile.leftTopWidthHeight, isMirrored = tile.fovMM[0] < 0;
    Object.assign(pen, { font: `600 ${14 * ratio()}px system-ui, sans-serif`, textAlign: "center", textBaseline: "middle", fillStyle: "#e6edf3", strokeStyle: "#000", lineWidth: 3 * ratio() });
    const [less, more] = tile.axCorSag === 2 ? "PA" : "LR", inset = 12 * ratio();
    for (const [text, a, b] of [[isMirrored ? more : less, left + inset, top + height / 2], [tile.axCorSag ? "S" : "A", left + width / 2, top + inset]]) { pen.strokeText(text, a, b); pen.fillText(text, a, b); }
  }
  /** The patch's edges over the 3D view. */
  function drawBox(pen, tile) {
    const [left, top, width, height] = tile.leftTopWidthHeight;
    const [m] = nv.calculateMvpMatrix(null, tile.leftTopWidthHeight, nv.scene.renderAzimuth, nv.scene.renderElevation);
    const corner = (bits) => {
      const mm = nv.frac2mm(toFrac([0, 1, 2].map((k) => (bits >> k & 1 ? box.high[k] : box.low[k]))), 0, true);
      const [x, y, , w] = [0, 1, 2, 3].map((r) => m[r] * mm[0] + m[4 + r] * mm[1] + m[8 + r] * mm[2] + m[12 + r]);
      return [left + (x / w + 1) / 2 * width, top + (1 - y / w) / 2 * height];
    };
    pen.beginPath();
    for (let bits = 0; bits < 8; bits += 1) for (const k of [1, 2, 4]) if (!(bits & k)) { pen.moveTo(...corner(bits)); pen.lineTo(...corner(bits | k)); }
    pen.stroke();
  }

  function drawOverlay() {
    if (overlay.width !== canvas.width) overlay.width = canvas.width;
    if (overlay.height !== canvas.height) overlay.height = canvas.height;
    const pen = overlay.getContext("2d");
    pen.clearRect(0, 0, overlay.width, overlay.height);
    if (!box || !nv.volumes.length) return;
    const at = toIjk(nv.frac2vox(nv.scene.crosshairPos));
    for (const tile of nv.screenSlices) {
      pen.save();
      pen.beginPath();
      pen.rect(...tile.leftTopWidthHeight);
      pen.clip();
      pen.lineWidth = 1.5 * ratio();
      pen.strokeStyle = "#00e5ff";
      if (isSlice(tile)) drawSlice(pen, tile, at); else drawBox(pen, tile);
      pen.restore();
    }
  }
  const drawScene = nv.drawScene.bind(nv);
  let isDue = false, isOpening = false;
  function drawNow() {
    isDue = false;
    if (isOpening) return;
    drawScene();
    drawOverlay();
  }
  nv.drawScene = () => { // NiiVue asks for it several times for one movement
    if (!isDue) requestAnimationFrame(() => { if (isDue) drawNow(); });
    isDue = true;
  };

  nv.onLocationChange = (place) => {
    if (!box) return;
    if (place.axCorSag <= 2) axis = fileAxis(place.axCorSag);
    tellPlace();
  };
  function tellPlace() {
    const ras = nv.frac2vox(nv.scene.crosshairPos);
    moved(toIjk(ras), nv.volumes[0].getValue(...ras), uncertainty ? uncertainty.getValue(...ras) : null);
  }
  nv.onIntensityChange = (image) => windowed(image.cal_min, image.cal_max);

  // The tool that fills is no pen of NiiVue's, whose fill runs through slices.
  canvas.addEventListener("mousedown", (event) => {
    if (tool !== "fill" || event.button !== 0 || !box || isLocked) return;
    const x = event.offsetX * ratio(), y = event.offsetY * ratio();
    for (const [i, tile] of nv.screenSlices.entries()) {
      const frac = isSlice(tile) ? nv.screenXY2TextureFrac(x, y, i, true) : [-1];
      if (frac[0] >= 0) fillAt(toIjk(nv.frac2vox(frac)), fileAxis(tile.axCorSag));
    }
  });
  function fillAt(ijk, across) {
    if (!labels.inside(box, ijk)) return;
    write(labels.fill(read(), box, ijk, across, index));
    commit();
  }
  function write(values) {
    put(values);
    upload(true);
  }

  /** Put an image below the uncertainty. By hand, since NiiVue fills its textures anew with each volume that comes or goes. */
  function place(image) {
    nv.volumes = uncertainty ? [image, uncertainty] : [image];
    nv.back = image;
    nv.overlays = nv.volumes.slice(1);
    nv.updateGLVolume();
  }
  function arrange() {
    const plane = PLANES[mode], isSolid = mode === "3d";
    if (isSolid !== Boolean(nv.opts.smoothDrawing)) {
      nv.opts.smoothDrawing = isSolid ? 1 : 0; // a shaded surface
      if (box) upload(false);
    }
    nv.clearCustomLayout();
    if (mode === "planes") {
      nv.setCustomLayout([
        { sliceType: 0, position: [0, 0, 0.6, 1] }, { sliceType: 1, position: [0.6, 0, 0.4, 0.5] }, { sliceType: 2, position: [0.6, 0.5, 0.4, 0.5] },
      ]);
    }
    // In 3D the image would hide what lies in it.
    if (nv.volumes.length) {
      nv.volumes[0].opacity = isSolid ? 0 : 1;
      nv.renderShader.use(nv.gl);
      nv.gl.uniform1f(nv.renderShader.uniforms.backOpacity, nv.volumes[0].opacity);
    }
    nv.setDrawOpacity(isSolid ? 1 : opacity.labels);
    nv.setSliceType(isSolid ? 4 : plane ?? 3);
    if (plane !== undefined && axes) axis = fileAxis(plane);
  }
  function setOpacity(name, value) {
    opacity[name] = value;
    if (name === "labels") nv.setDrawOpacity(value);
    else if (uncertainty) {
      uncertainty.opacity = value;
      nv.refreshLayers(uncertainty, 1);
      nv.drawScene();
    }
  }

  const viewer = {
    canDraw: true,
    /** Show a case; `given` are unpacked .nii files: channels, and uncertainty or null. */
    async open(given) {
      box = null;
      isOpening = true;
      try {
        const load = (bytes, name) => NVImage.loadFromUrl({ url: name, name, buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) });
        nv.closeDrawing();
        images = await Promise.all(given.channels.map((bytes, k) => load(bytes, `channel${k}.nii`)));
        orient(images[0]);
        uncertainty = given.uncertainty && await load(given.uncertainty, "uncertainty.nii");
        if (uncertainty) { // the more, the less transparent
          const highest = uncertainty.global_max || 1;
          Object.assign(uncertainty, { colormap: "inferno", opacity: opacity.uncertainty, colormapType: MORE_IS_DENSER, cal_min: highest, cal_max: highest });
        }
        place(images[0]);
        nv.createEmptyDrawing();
        arrange();
      } finally {
        isOpening = false;
      }
      nv.drawScene();
    },
    /** Go to a patch: its box, its labels, and [box, labels] of the case's others, which are seen and not drawn on. */
    show(patch, values, beside) {
      box = null;
      frame = new Uint8Array(nv.drawBitmap.length);
      for (const [other, theirs] of beside) labels.paste(frame, other, layout, theirs);
      others = beside.map(([other]) => other);
      box = patch;
      write(values);
      viewer.fit();
      viewer.setTool(tool, index, nv.opts.penSize);
      windowed(nv.volumes[0].cal_min, nv.volumes[0].cal_max);
      tellPlace();
    },
    write,
    read,
    fit(margin = 1.1) {
      nv.scene.crosshairPos = middle(box.low.map((low, k) => Math.floor((low + box.high[k] - 1) / 2)));
      const size = axes.map((one, k) => one.n / (box.high[k] - box.low[k]));
      const zoom = Math.max(1, Math.min(...size) / margin);
      const whole = nv.frac2mm([0.5, 0.5, 0.5]), centre = nv.frac2mm(toFrac(box.low.map((low, k) => (low + box.high[k]) / 2)));
      nv.setPan2Dxyzmm([...[0, 1, 2].map((k) => (zoom > 1 ? whole[k] - zoom * centre[k] : 0)), zoom]);
    },
    zoomBy(factor) {
      const old = nv.scene.pan2Dxyzmm, whole = nv.frac2mm([0.5, 0.5, 0.5]), zoom = Math.min(20, Math.max(0.5, old[3] * factor));
      nv.setPan2Dxyzmm([...[0, 1, 2].map((k) => whole[k] - (whole[k] - old[k]) * zoom / old[3]), zoom]);
    },
    goTo(ijk) { nv.scene.crosshairPos = middle(ijk); nv.drawScene(); tellPlace(); },
    step(by) {
      const at = toIjk(nv.frac2vox(nv.scene.crosshairPos));
      at[axis] = Math.min(shape[axis] - 1, Math.max(0, at[axis] + by));
      viewer.goTo(at);
    },
    setTool(name, value, size) {
      [tool, index] = [name, value];
      nv.opts.penSize = size;
      nv.setDrawingEnabled(!isLocked && ["pen", "outline", "eraser"].includes(name));
      nv.setPenValue(name === "eraser" ? 0 : value, name === "outline");
      canvas.style.cursor = name === "move" ? "default" : "crosshair";
    },
    /** Labels can be looked at and not changed: they are others than the patch's own. */
    lock(is) { isLocked = is; viewer.setTool(tool, index, nv.opts.penSize); },
    setView(name) { mode = name; arrange(); },
    setOpacity,
    setChannel(k) {
      images[k].opacity = nv.volumes[0].opacity;
      place(images[k]);
      windowed(images[k].cal_min, images[k].cal_max);
      tellPlace();
    },
    setWindow(low, high) {
      Object.assign(nv.volumes[0], { cal_min: low, cal_max: high });
      nv.updateGLVolume();
    },
    autoWindow() {
      const { robust_min: low, robust_max: high } = nv.volumes[0];
      viewer.setWindow(low, high);
      windowed(low, high);
    },
    get axis() { return axis; },
    fillAt,
    /** A stroke of the pen through these voxels of the file, as the mouse makes it. */
    stroke(points, value) {
      nv.drawPenAxCorSag = 2 - axes[axis].ras;
      points.map(toRas).forEach((ras, i, all) => (i ? nv.drawPenLine(ras, all[i - 1], value) : nv.drawPt(...ras, value)));
      nv.drawPenAxCorSag = -1;
      nv.refreshDrawing(true);
      commit();
    },
    /** Where a point of the world (mm to the right, front and top) is on the page, in each tile that shows slices. */
    onPage(mm) {
      const frac = nv.mm2frac(mm, 0, true), { left, top } = canvas.getBoundingClientRect();
      nv.scene.crosshairPos = frac;
      drawNow();
      return nv.screenSlices.filter(isSlice).map((tile) => {
        const [x, y] = onTile(tile, frac);
        return [left + x / ratio(), top + y / ratio()];
      });
    },
    nv,
  };
  return viewer;
}
