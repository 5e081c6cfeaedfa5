"use strict";
// The page: which patch is shown, what was done with it, and what of that is kept and saved.
const annotation = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const MOST_UNDONE = 50; // states of a patch that are kept to go back to
  const IDLE_MS = 60000; // no minutes are counted when nothing was done for so long
  const VIEWS = { planes: "Planes", axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", "3d": "3D" };
  const TOOLS = { move: ["Move", "m"], pen: ["Pen", "b"], outline: ["Outline", "o"], fill: ["Fill", "f"], eraser: ["Eraser", "e"] };
  const CT = { "CT window": null, "soft tissue": [-160, 240], liver: [-45, 105], lung: [-1350, 150], bone: [-450, 1050], brain: [0, 80] };
  const STATES = { open: "to do", done: "done", later: "later", refused: "refused" };

  // ---- patches, in the order in which most is gained ---------------------------------------------------------------
  const patches = data.cases.flatMap((one) => one.patches.map((patch) => ({
    number: patch.number, reserve: patch.reserve, case: one, box: { low: patch.low, high: patch.high }, // labels: null until the case was opened
    labels: null, first: null, undo: [], state: "open", reason: "", seconds: 0, annotator: "",
  }))).sort((a, b) => a.number - b.number);
  /** The patches to label: one of the reserve, in their order, for each that is refused. */
  function wanted() {
    let gaps = patches.filter((patch) => !patch.reserve && patch.state === "refused").length;
    return patches.filter((patch) => !patch.reserve || (patch.state !== "refused" && gaps-- > 0));
  }
  let shown = null, viewer = null, opened = null, spacing = null, turn = Promise.resolve();
  let tool = "pen", index = data.classes.length > 1 ? 1 : 0, view = "planes";
  const indexOf = new Map(data.classes.map((one, i) => [one.value, i]));
  const valueOf = data.classes.map((one) => one.value);

  const tell = (text) => { $("message").textContent = text; };
  window.addEventListener("error", (event) => tell(`Something failed (${event.message}). What was done is kept.`));
  window.addEventListener("unhandledrejection", (event) => tell(`Something failed (${event.reason?.message ?? event.reason}). What was done is kept.`));

  // ---- what the browser keeps --------------------------------------------------------------------------------------
  const store = {
    base: null,
    request: (request) => new Promise((resolve, reject) => { request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); }),
    async open() {
      try {
        const request = indexedDB.open("nnactive-nf annotation", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("patches");
        store.base = await store.request(request);
      } catch {
        tell("This browser keeps nothing when the window closes: save before.");
      }
    },
    key: (patch) => `${data.id}/${patch.case.name}/${patch.number}`,
    async load(patch) {
      return store.base && store.request(store.base.transaction("patches").objectStore("patches").get(store.key(patch)));
    },
    async save(patch) {
      if (!store.base) return;
      const { labels: kept, state, reason, seconds, annotator } = patch;
      await store.request(store.base.transaction("patches", "readwrite").objectStore("patches").put({ labels: kept, state, reason, seconds, annotator }, store.key(patch)));
    },
  };
  const keep = (patch = shown) => store.save(patch).catch((error) => tell(`This work could not be kept (${error.message}): save it.`));

  // ---- cases -------------------------------------------------------------------------------------------------------
  const unpacked = (id) => files.gunzip(files.embedded(id));
  /** Class indices in the boxes of a case, from its start, where nothing was kept. */
  function begin(one, start) {
    const layout = labels.layoutOf(start.shape);
    for (const patch of patches.filter((other) => other.case === one && !other.first)) {
      patch.first = labels.cut(start.voxels, patch.box, layout).map((value) => indexOf.get(value) ?? 0);
      patch.labels ??= patch.first;
    }
  }
  async function openCase(one) {
    $("wait").hidden = false;
    const given = { axes: one.axes, uncertainty: null };
    [given.start, ...given.channels] = await Promise.all([one.start, ...one.channels.map((channel) => channel.file)].map(unpacked));
    if (one.uncertainty) given.uncertainty = await unpacked(one.uncertainty);
    const first = files.nifti(given.start);
    begin(one, first);
    ({ spacing } = first);
    await viewer.open(given);
    opened = one;
    $("channel").replaceChildren(...one.channels.map((channel, k) => new Option(channel.name, k)));
    $("channel").hidden = one.channels.length < 2;
    $("uncertainty-row").hidden = !one.uncertainty;
    offerWindows(0);
    $("wait").hidden = true;
  }
  function offerWindows(k) {
    const isCt = opened.channels[k].name.trim().toLowerCase() === "ct";
    $("preset").hidden = !isCt;
    $("preset").replaceChildren(...Object.keys(CT).map((name) => new Option(name, name)));
  }

  /** Show a patch; calls follow one another, as cases take time to open. */
  function show(patch) {
    turn = turn.then(async () => {
      if (shown) { keep(); compare(false); }
      if (opened !== patch.case) await openCase(patch.case);
      shown = patch;
      viewer.show(patch.box, patch.labels, patches.filter((other) => other !== patch && other.case === patch.case).map((other) => [other.box, other.labels]));
      tell("");
      $("first-row").hidden = !patch.first.some(Boolean);
      $("reason").hidden = true;
      refresh();
      document.querySelector("#list [aria-current]").scrollIntoView({ block: "nearest" });
    }).catch((error) => { // the next patch is shown all the same
      $("wait").textContent = `${patch.case.name} cannot be shown (${error.message}).`;
      $("wait").hidden = false;
    });
    return turn;
  }
  const go = (by) => { const next = patches[patches.indexOf(shown) + by]; if (next) show(next); };

  // ---- changes -----------------------------------------------------------------------------------------------------
  function changed(values) {
    if (labels.equal(values, shown.labels)) return;
    shown.undo.push(shown.labels);
    if (shown.undo.length > MOST_UNDONE) shown.undo.shift();
    set(values);
  }
  function set(values) {
    shown.labels = values;
    if (shown.state === "done") mark("open"); // it is to be looked at once more
    keep();
    refresh();
  }
  function undo() {
    if (!shown.undo.length) return;
    compare(false);
    const before = shown.undo.pop();
    viewer.write(before);
    set(before);
  }
  function replace(values) {
    compare(false);
    viewer.write(values);
    changed(values);
  }
  function interpolate() {
    if (!index) { tell("Choose a class to interpolate."); return; }
    const values = labels.interpolate(shown.labels, shown.box, viewer.axis, index, spacing);
    tell(values ? "" : `${data.classes[index].name}: no slices lie between others that hold it, in the plane that was drawn on last.`);
    if (values) replace(values);
  }

  function mark(state, reason = "") {
    Object.assign(shown, { state, reason, annotator: $("annotator").value.trim() });
    keep();
    refresh();
  }
  function finish(state, reason) {
    mark(state, reason);
    const asked = wanted();
    const rest = [...asked.filter((patch) => patch.number > shown.number), ...asked].find((patch) => patch.state === "open");
    if (rest) show(rest); else tell(asked.some((patch) => patch.state === "later") ? "What is left was put off for later." : "All patches are looked at: Save all.");
  }
  function refuse() {
    const reason = $("reason").value.trim();
    if ($("reason").hidden || !reason) {
      $("reason").hidden = false;
      $("reason").focus();
      tell("Say why, then press Refuse or Enter.");
      return;
    }
    $("reason").value = "";
    finish("refused", reason);
  }

  // ---- time --------------------------------------------------------------------------------------------------------
  let acted = Date.now(), ticked = Date.now();
  for (const kind of ["pointermove", "pointerdown", "wheel", "keydown"]) window.addEventListener(kind, () => { acted = Date.now(); }, { capture: true, passive: true });
  setInterval(() => {
    const now = Date.now(), passed = Math.min(now - ticked, 2000); // a machine that slept did not work
    ticked = now;
    if (!shown || document.visibilityState !== "visible" || now - acted > IDLE_MS) return;
    const before = minutes(shown);
    shown.seconds += passed / 1000;
    if (minutes(shown) !== before) { keep(); refresh(); }
  }, 1000);
  const minutes = (patch) => Math.round(patch.seconds / 6) / 10;

  // ---- what is saved -----------------------------------------------------------------------------------------------
  /** The labels of a case: the start's header, and in done patches their classes; all else is undecided. */
  async function caseFile(one) {
    const start = files.nifti(await unpacked(one.start));
    begin(one, start);
    const voxels = new Uint8Array(start.voxels.length).fill(data.undecided);
    for (const patch of patches) if (patch.case === one && patch.state === "done") labels.paste(voxels, patch.box, labels.layoutOf(start.shape), patch.labels, valueOf);
    const whole = new Uint8Array(start.head.length + voxels.length);
    whole.set(start.head);
    whole.set(voxels, start.head.length);
    return [`${one.name}.nii.gz`, await files.gzip(whole)];
  }
  const tasks = () => patches.map((patch) => ({
    patch: patch.number, case: patch.case.name, state: patch.state === "open" ? "later" : patch.state, reason: patch.reason, minutes: minutes(patch), annotator: patch.annotator,
  }));
  function csv(rows) {
    const quote = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    return [Object.keys(rows[0]), ...rows.map(Object.values)].map((row) => `${row.map(quote).join(",")}\n`).join("");
  }
  async function allFiles() {
    const text = (string) => new TextEncoder().encode(string);
    const found = [];
    for (const one of data.cases) found.push(await caseFile(one));
    return [...found, ["tasks.json", text(`${JSON.stringify(tasks(), null, 1)}\n`)], ["tasks.csv", text(csv(tasks()))]];
  }
  const fileName = (text) => text.replace(/[^\w.-]+/g, "_");
  async function saveAll() {
    files.download(`${fileName(data.title) || "annotation"}.zip`, files.zip(await allFiles()));
    const left = wanted().filter((patch) => ["open", "later"].includes(patch.state)).length;
    tell(left ? `Saved without the labels of ${left} patches that are not done.` : "Saved.");
  }
  async function saveCase() {
    const [name, bytes] = await caseFile(shown.case);
    files.download(name, new Blob([bytes], { type: "application/gzip" }));
  }

  // ---- what is seen ------------------------------------------------------------------------------------------------
  function element(tag, properties, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }
  const key = (text) => element("kbd", { textContent: text });
  function refresh() {
    const total = patches.reduce((sum, patch) => sum + patch.seconds, 0) / 60;
    const asked = wanted(), count = (state) => asked.filter((patch) => patch.state === state).length;
    const idle = (patch) => !asked.includes(patch) && patch.state === "open";
    $("progress").textContent = `${count("done")} of ${patches.filter((patch) => !patch.reserve).length} done${count("refused") ? `, ${count("refused")} refused` : ""} · ${total.toFixed(0)} min`;
    for (const [place, patch] of patches.entries()) {
      const item = $("list").children[place];
      item.className = idle(patch) ? "idle" : patch.state;
      item.firstChild.toggleAttribute("aria-current", patch === shown);
      item.querySelector("small").textContent = [idle(patch) ? "reserve, if one is refused" : STATES[patch.state], patch.seconds >= 3 ? `${minutes(patch).toFixed(1)} min` : "", patch.reason].filter(Boolean).join(" · ");
    }
    if (!shown) return;
    $("patch-title").textContent = `Patch ${shown.number}, ${shown.case.name}: ${STATES[shown.state]}`;
    $("undo").disabled = !shown.undo.length;
    $("reset").disabled = labels.equal(shown.labels, shown.first);
    for (const button of document.querySelectorAll("#tools button")) button.setAttribute("aria-pressed", button.value === tool);
    for (const button of document.querySelectorAll("#views button")) button.setAttribute("aria-pressed", button.value === view);
    $("classes").querySelectorAll("input")[index].checked = true;
  }
  function useTool(name) {
    tool = name;
    viewer.setTool(tool, index, Number($("size").value));
    refresh();
  }
  function useClass(value) {
    if (value >= data.classes.length) return;
    index = value;
    useTool(["pen", "outline", "fill"].includes(tool) ? tool : "pen"); // with background the pen is an eraser, too
  }
  function useSize(size) {
    $("size").value = size;
    $("size-out").textContent = $("size").value;
    useTool(tool);
  }
  function useView(name) {
    view = name;
    viewer.setView(name);
    refresh();
  }
  function toggleUncertainty() {
    const slider = $("layer-uncertainty");
    slider.value = Number(slider.value) ? 0 : 0.6;
    slider.dispatchEvent(new Event("input"));
  }
  /** The pre-segmentation in the place of the patch's labels, to look at. */
  function compare(is) {
    $("first").checked = is;
    viewer.lock(is);
    viewer.write(is ? shown.first : shown.labels);
  }
  const rounded = (value) => Number(value.toPrecision(4));
  function windowed(low, high) { [$("low").value, $("high").value] = [rounded(low), rounded(high)]; }
  function moved(ijk, value, uncertainty) {
    const words = [`voxel ${ijk.join(", ")}`, `value ${rounded(value)}`];
    if (uncertainty !== null) words.push(`uncertainty ${uncertainty.toPrecision(3)}`);
    if (shown && labels.inside(shown.box, ijk)) {
      const size = labels.sizeOf(shown.box), [x, y, z] = ijk.map((v, k) => v - shown.box.low[k]);
      words.push(data.classes[shown.labels[x + size[0] * (y + size[1] * z)]].name);
    } else words.push("outside the patch");
    $("place").replaceChildren(...words.map((word) => element("span", { textContent: word })));
  }

  function build() {
    $("list").append(...patches.map((patch) => {
      const button = element("button", { type: "button", title: `Patch ${patch.number} of ${patch.case.name}` },
        element("span", { className: "number", textContent: patch.number }), element("span", { className: "case", textContent: patch.case.name }), element("small"));
      button.addEventListener("click", () => show(patch));
      return element("li", {}, button);
    }));
    $("classes").append(...data.classes.map((one, i) => {
      const radio = element("input", { type: "radio", name: "class", value: i });
      radio.addEventListener("change", () => useClass(i));
      const dot = element("i", { className: "dot" });
      dot.style.background = one.colour;
      return element("label", { title: one.name }, radio, dot, element("span", { textContent: one.name }), ...(i < 10 ? [key(i || "e")] : []));
    }));
    $("tools").append(...Object.entries(TOOLS).map(([name, [text, letter]]) => {
      const button = element("button", { type: "button", value: name }, `${text} `, key(letter));
      button.addEventListener("click", () => useTool(name));
      return button;
    }));
    $("views").append(...Object.entries(VIEWS).filter(([name]) => viewer.canDraw || !["planes", "3d"].includes(name)).map(([name, text]) => {
      const button = element("button", { type: "button", value: name, textContent: text });
      button.addEventListener("click", () => useView(name));
      return button;
    }));
    for (const [id, action] of Object.entries({
      undo, interpolate, refuse, done: () => finish("done"), later: () => finish("later"), reset: () => replace(shown.first), fit: () => viewer.fit(), auto: () => viewer.autoWindow(), "save-all": saveAll, "save-case": saveCase,
    })) $(id).addEventListener("click", () => action());
    $("reason").addEventListener("keydown", (event) => { if (event.key === "Enter") refuse(); });
    $("size").addEventListener("input", () => useSize(Number($("size").value)));
    for (const name of ["labels", "uncertainty"]) $(`layer-${name}`).addEventListener("input", (event) => viewer.setOpacity(name, Number(event.target.value)));
    for (const id of ["low", "high"]) $(id).addEventListener("change", () => viewer.setWindow(Number($("low").value), Number($("high").value)));
    $("first").addEventListener("change", () => compare($("first").checked));
    $("channel").addEventListener("change", () => { viewer.setChannel(Number($("channel").value)); offerWindows(Number($("channel").value)); });
    $("preset").addEventListener("change", () => {
      const range = CT[$("preset").value];
      if (range) { viewer.setWindow(...range); windowed(...range); } else viewer.autoWindow();
    });
    try { $("annotator").value = localStorage.getItem("nnactive-nf annotator") ?? ""; } catch { /* none is kept */ }
    $("annotator").addEventListener("keydown", (event) => { if (event.key === "Enter") $("annotator").blur(); });
    $("annotator").addEventListener("change", () => { try { localStorage.setItem("nnactive-nf annotator", $("annotator").value); } catch { /* none is kept */ } });
    window.addEventListener("keydown", pressed, true);
    window.addEventListener("keyup", (event) => { if (event.target === $("view")) event.stopPropagation(); }, true);
    window.addEventListener("pagehide", () => { if (shown) keep(); });
    document.addEventListener("visibilitychange", () => { if (shown) keep(); });
  }
  const KEYS = {
    n: () => go(1), p: () => go(-1), d: () => finish("done"), l: () => finish("later"), u: undo, i: interpolate, v: () => { const names = [...document.querySelectorAll("#views button")].map((one) => one.value); useView(names[(names.indexOf(view) + 1) % names.length]); },
    x: toggleUncertainty, r: () => $("first").click(), z: () => viewer.fit(), "+": () => viewer.zoomBy(1.25), "-": () => viewer.zoomBy(0.8),
    "[": () => useSize(Number($("size").value) - 2), "]": () => useSize(Number($("size").value) + 2),
    ArrowUp: () => viewer.step(1), ArrowDown: () => viewer.step(-1), ArrowRight: () => viewer.step(1), ArrowLeft: () => viewer.step(-1),
    ...Object.fromEntries(Object.entries(TOOLS).map(([name, [, letter]]) => [letter, () => useTool(name)])),
    ...Object.fromEntries(Array.from({ length: 9 }, (_, i) => [String(i + 1), () => useClass(i + 1)])),
  };
  const DRAWING = new Set(["u", "i", "d", "[", "]", "m", "b", "o", "f", "e", ..."123456789"]);
  function pressed(event) {
    if (!shown || event.altKey || event.metaKey || event.target.matches("input:not([type=range], [type=radio]), select")) return;
    if (event.ctrlKey && event.key !== "z") return;
    const letter = event.ctrlKey ? "u" : event.key;
    const isArrowOfControl = letter.startsWith("Arrow") && event.target.matches("input");
    if (!Object.hasOwn(KEYS, letter) || isArrowOfControl || (DRAWING.has(letter) && !viewer.canDraw)) return;
    event.preventDefault();
    event.stopPropagation(); // NiiVue has keys of its own
    KEYS[letter]();
  }

  async function start() {
    const parts = { canvas: $("view"), overlay: $("overlay"), classes: data.classes, changed, moved, windowed };
    const missing = typeof niivue === "undefined" ? "The viewer with a pen is missing here (set-up had no npm)" : !document.createElement("canvas").getContext("webgl2") ? "This browser shows no WebGL 2" : "";
    if (typeof DecompressionStream === "undefined") {
      $("wait").textContent = "This browser is too old: Chrome or Edge 80, Firefox 113 or Safari 16.4 are wanted, or newer ones.";
      return;
    }
    viewer = missing ? plainViewer(parts) : await niivueViewer(parts);
    document.body.classList.toggle("no-pen", !viewer.canDraw);
    if (!viewer.canDraw) view = "axial";
    build();
    $("about").textContent = missing ? "" : `Shown by NiiVue, © 2021 Niivue, under the BSD 2-Clause License, whose text stands in this page.`;
    await store.open();
    for (const patch of patches) Object.assign(patch, await store.load(patch).catch(() => null));
    refresh();
    const first = wanted().find((patch) => patch.state === "open") ?? patches[0];
    await show(first);
    if (!viewer.canDraw) {
      for (const id of ["done", "save-case"]) $(id).disabled = true;
      tell(`${missing}: patches can be looked at, put off and refused, and labelled with another program.`);
    }
    useTool(tool);
    document.documentElement.dataset.ready = "yes";
  }
  start();
  return { show: (number) => show(patches.find((patch) => patch.number === number)), allFiles, get viewer() { return viewer; }, get shown() { return shown; }, useTool, useClass, useSize, useView };
})();
