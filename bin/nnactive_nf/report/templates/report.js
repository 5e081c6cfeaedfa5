"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const strategies = new Map(data.strategies.map((s) => [s.name, s]));
  const hidden = new Set();
  const redraw = []; // functions that draw the figures anew, after a change of theme or of the strategies shown

  // ---- theme -----------------------------------------------------------------------------------------------------
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  let chosenTheme = null;
  let printing = false;
  const isDark = () => !printing && (chosenTheme ? chosenTheme === "dark" : prefersDark.matches);
  function applyTheme() {
    root.dataset.theme = isDark() ? "dark" : "light";
    $("theme").textContent = isDark() ? "Light" : "Dark";
    drawSwatches();
    redraw.forEach((draw) => draw());
  }
  $("theme").addEventListener("click", () => { chosenTheme = isDark() ? "light" : "dark"; applyTheme(); });
  prefersDark.addEventListener("change", applyTheme);
  window.addEventListener("beforeprint", () => {
    printing = true;
    document.querySelectorAll("details").forEach((d) => { d.dataset.was = d.open ? "1" : ""; d.open = true; });
    applyTheme();
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    document.querySelectorAll("details").forEach((d) => { d.open = d.dataset.was === "1"; });
    applyTheme();
  });
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colour = (s) => (isDark() ? s.dark : s.light);
  const fade = (hex, alpha) => {
    const n = parseInt(hex.slice(1), 16);
    return `rgba(${n >> 16},${(n >> 8) & 255},${n & 255},${alpha})`;
  };

  // ---- figures ---------------------------------------------------------------------------------------------------
  const config = { displaylogo: false, responsive: true, plotlyServerURL: "", displayModeBar: false };
  const font = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", Arial, sans-serif';
  function layout(extra) {
    const axis = {
      gridcolor: css("--grid"), linecolor: css("--rule"), zeroline: false, automargin: true, ticks: "outside",
      tickcolor: css("--rule"), title: { standoff: 8, font: { size: 13 } }, tickfont: { size: 12 },
    };
    const base = {
      font: { family: font, size: 13, color: css("--ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 58, r: 14, t: 34, b: 48 }, showlegend: false, hovermode: "closest", height: 340,
      hoverlabel: { bgcolor: css("--paper"), bordercolor: css("--rule"), font: { family: font, color: css("--ink") } },
      title: { x: 0.01, xanchor: "left", font: { size: 14 } },
    };
    const result = { ...base, ...extra };
    result.title = { ...base.title, ...(extra.title || {}) };
    for (const name of ["xaxis", "yaxis"]) {
      const own = extra[name] || {};
      result[name] = { ...axis, ...own, title: { ...axis.title, ...(own.title || {}) } };
    }
    return result;
  }
  const plots = new Map(); // an element is drawn when it first comes near the screen
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) { const draw = plots.get(entry.target); draw.ready = true; draw(); watcher.unobserve(entry.target); }
    }
  }, { rootMargin: "600px" });
  function figure(element, label, make) {
    const draw = () => {
      if (!draw.ready && !printing) return;
      const made = make();
      element.setAttribute("role", "img");
      element.setAttribute("aria-label", made ? made.alt || label : label);
      if (!made) {
        if (window.Plotly) Plotly.purge(element);
        element.innerHTML = "";
        const text = document.createElement("p");
        text.className = "empty";
        text.textContent = label;
        element.append(text);
        return;
      }
      if (element.querySelector(".empty")) element.innerHTML = "";
      Plotly.react(element, made.traces, layout(made.layout), config);
    };
    plots.set(element, draw);
    redraw.push(draw);
    watcher.observe(element);
    return draw;
  }
  const known = (values) => Array.isArray(values) && values.some((v) => v !== null);
  const fixed = (value, digits = 3) => (value === null || value === undefined ? "not known" : value.toFixed(digits));
  const shown = (name) => !hidden.has(name);
  const marker = (s) => ({ symbol: s.symbol, size: 8, color: colour(s), line: { width: s.random ? 2 : 0, color: colour(s) } });
  function options(select, entries, keep) {
    const before = keep ? select.value : null;
    select.innerHTML = "";
    for (const [value, text] of entries) select.append(new Option(text, value));
    if (before !== null && entries.some(([value]) => String(value) === before)) select.value = before;
    const label = select.closest("label");
    if (label) label.hidden = entries.length < 2;
  }
  const settingOptions = (filter) => data.settings.map((s, i) => [i, s.title]).filter(([i]) => !filter || filter(data.settings[i]));

  function drawSwatches() {
    const dashes = { solid: "", longdash: "9 3", dash: "6 3", dot: "2 3", dashdot: "7 3 2 3" };
    const shapes = {
      circle: "M17 6a4 4 0 1 1-8 0a4 4 0 1 1 8 0Z", square: "M9.5 2.5h7v7h-7Z", diamond: "M13 1l5 5l-5 5l-5-5Z",
      "triangle-up": "M13 1.5l4.5 8h-9Z", "triangle-down": "M13 10.5l4.5-8h-9Z",
      pentagon: "M13 1.5l4.6 3.3l-1.8 5.4h-5.6l-1.8-5.4Z", hexagon: "M9 3.7l4-2.3l4 2.3v4.6l-4 2.3l-4-2.3Z",
    };
    document.querySelectorAll(".swatch").forEach((element) => {
      const s = strategies.get(element.dataset.strategy);
      const c = colour(s);
      const fill = s.random ? "none" : c;
      element.innerHTML =
        `<svg viewBox="0 0 26 12"><line x1="0" y1="6" x2="26" y2="6" stroke="${c}" stroke-width="2.2" stroke-dasharray="${dashes[s.dash]}"/>` +
        `<path d="${shapes[s.symbol.replace("-open", "")]}" fill="${fill}" stroke="${c}" stroke-width="1.8"/></svg>`;
    });
  }
  const boxes = [...document.querySelectorAll(".legend input")];
  boxes.forEach((box) => {
    box.addEventListener("change", () => {
      boxes.filter((other) => other.value === box.value).forEach((other) => { other.checked = box.checked; });
      if (box.checked) hidden.delete(box.value); else hidden.add(box.value);
      redraw.forEach((draw) => draw());
    });
  });

  // ---- learning curves -------------------------------------------------------------------------------------------
  const allClasses = [...new Set(data.settings.flatMap((s) => s.classes))];
  options($("curve-x"), Object.entries(data.axes).filter(([key]) =>
    data.settings.some((s) => Object.values(s.curves).some((c) => known(c.x[key])))));
  options($("curve-measure"), Object.entries(data.measures).filter(([key]) =>
    data.settings.some((s) => Object.values(s.curves).some((c) => s.classes.some((k) => c.y[k] && known((c.y[k][key] || {}).mean))))));
  options($("curve-class"), allClasses.map((name) => [name, name === "mean" ? "mean of classes" : name]));
  function curveTraces(setting) {
    const x = $("curve-x").value, measure = $("curve-measure").value, name = $("curve-class").value;
    const traces = [];
    for (const [strategy, c] of Object.entries(setting.curves)) {
      const s = strategies.get(strategy);
      const y = c.y[name] && c.y[name][measure];
      const unseen = !shown(strategy);
      if (y && known(y.mean) && known(c.x[x])) {
        if (y.sd) {
          const xs = c.x[x];
          traces.push({
            x: [...xs, ...xs.slice().reverse()],
            y: [...y.mean.map((v, i) => v + y.sd[i]), ...y.mean.map((v, i) => v - y.sd[i]).reverse()],
            fill: "toself", fillcolor: fade(colour(s), 0.13), line: { width: 0 }, mode: "lines", hoverinfo: "skip", visible: !unseen,
          });
        }
        traces.push({
          x: c.x[x], y: y.mean, name: s.label, mode: "lines+markers", visible: !unseen, meta: strategy,
          line: { color: colour(s), dash: s.dash, width: 2.2 }, marker: marker(s),
          customdata: y.mean.map((v, i) => [i, y.sd ? ` ± ${y.sd[i].toFixed(4)}` : "", y.n]),
          hovertemplate: `<b>${s.label}</b><br>cycle %{customdata[0]}: %{y:.4f}%{customdata[1]}<br>%{x:,.4~g} ${data.axes[x]}<br>%{customdata[2]} seed(s)<extra></extra>`,
        });
      }
      const single = measure === "dice" && name === "mean";
      for (const [seed, line] of Object.entries(c.seeds)) {
        const broken = line.y.some((v) => v === null);
        if (!single || !known(line.y) || !(broken || $("curve-seeds").checked) || !known(line.x[x])) continue;
        traces.push({
          x: line.x[x], y: line.y, mode: broken ? "lines+markers" : "lines", visible: !unseen, name: `${s.label}, seed ${seed}`,
          line: { color: fade(colour(s), broken ? 0.9 : 0.45), width: 1, dash: broken ? "dot" : "solid" }, marker: { size: 4, color: colour(s) },
          hovertemplate: `<b>${s.label}</b>, seed ${seed}${broken ? " (incomplete)" : ""}<br>%{y:.4f}<extra></extra>`,
        });
      }
    }
    const full = setting.full[name];
    if (traces.length && full !== undefined && measure === "dice") {
      const xs = traces.flatMap((t) => t.x).filter((v) => v !== null);
      const ys = traces.flatMap((t) => t.y).filter((v) => v !== null);
      const top = Math.max(...ys), range = top - Math.min(...ys);
      if (full > top + 1.2 * range) return { traces, above: full }; // too far up: the curves would be squashed
      traces.push({
        x: [Math.min(...xs), Math.max(...xs)], y: [full, full], mode: "lines", line: { color: css("--ink"), width: 1.2, dash: "dot" },
        hovertemplate: `training on full labels: ${full.toFixed(4)}<extra></extra>`,
      });
    }
    return { traces, above: null };
  }
  function describeCurves(setting) {
    const ends = Object.entries(setting.curves).map(([name, c]) => {
      const y = ((c.y.mean || {}).dice || {}).mean;
      return known(y) ? `${strategies.get(name).label} from ${fixed(y[0])} to ${fixed(y[y.length - 1])}` : null;
    }).filter(Boolean);
    return `Learning curves, ${setting.title}. Mean test Dice: ${ends.join("; ") || "no complete trajectory"}.`;
  }
  const curveDraws = data.settings.map((setting) => {
    const holder = document.createElement("figure");
    const plot = document.createElement("div");
    plot.className = "plot curve";
    holder.append(plot);
    $("curve-grid").append(holder);
    return figure(plot, `${setting.title}: no results to draw for this choice.`, () => {
      const { traces, above } = curveTraces(setting);
      const axis = data.axes[$("curve-x").value], measure = data.measures[$("curve-measure").value], name = $("curve-class").value;
      return traces.length && {
        traces, alt: describeCurves(setting),
        layout: {
          title: { text: setting.title },
          annotations: above === null ? [] : [{
            text: `↑ full labels: ${above.toFixed(3)}`, xref: "paper", yref: "paper", x: 1, y: 1, xanchor: "right", yanchor: "bottom",
            showarrow: false, font: { size: 12, color: css("--soft") },
          }],
          xaxis: { title: { text: axis } },
          yaxis: {
            autorangeoptions: { clipmin: 0, ...(data.measures.hd95_mm === measure ? {} : { clipmax: 1 }) }, // a lone point makes its range up
            title: { text: `test ${measure}${name === "mean" ? ", mean of classes" : `, ${name}`}` },
          },
        },
      };
    });
  });
  ["curve-x", "curve-measure", "curve-class", "curve-seeds"].forEach((id) => $(id).addEventListener("change", () => curveDraws.forEach((d) => d())));

  // ---- pairwise penalty matrix -----------------------------------------------------------------------------------
  const unique = (values) => [...new Set(values)];
  options($("ppm-where"), unique(data.ppm.map((m) => m.where)).map((w) => [w, w]));
  function ppmClasses() {
    const names = unique(data.ppm.filter((m) => m.where === $("ppm-where").value).map((m) => m.class));
    options($("ppm-class"), names.map((n) => [n, n === "mean" ? "mean of classes" : n]), true);
  }
  ppmClasses();
  const drawPpm = figure($("ppm"), "No two strategies have two seeds in common, so there is nothing to test.", () => {
    const m = data.ppm.find((one) => one.where === $("ppm-where").value && one.class === $("ppm-class").value && one.correction === $("ppm-correction").value);
    if (!m) return null;
    const labels = m.strategies.map((n) => strategies.get(n).label);
    const shares = (wins, budgets) => wins.map((row, i) => row.map((w, j) => (budgets[i][j] ? w / budgets[i][j] : null)));
    const share = shares(m.wins, m.budgets), withStart = shares(m.wins_with_start, m.budgets_with_start);
    const narrow = $("ppm").clientWidth < 560, crowded = narrow && labels.length > 5;
    const hover = m.wins.map((row, i) => row.map((w, j) => (i === j ? "" :
      m.budgets[i][j] ? `${labels[i]} beats ${labels[j]}<br>at ${w} of ${m.budgets[i][j]} tested budgets after the start`
        + `<br>with the start: ${m.wins_with_start[i][j]} of ${m.budgets_with_start[i][j]}` : "not tested")));
    const written = (v) => (crowded ? `${Math.round(100 * v)}` : v.toFixed(2));
    const cell = (v, w) => { // the published form below ours, where it is another number
      const first = written(v), second = written(w);
      return first === second ? first : `${first}<br><span style="font-size:0.8em">(${second})</span>`;
    };
    const facts = [];
    share.forEach((row, i) => row.forEach((v, j) => { if (v) facts.push(`${labels[i]} beats ${labels[j]} at ${Math.round(v * 100)}%, with the start ${Math.round(withStart[i][j] * 100)}%`); }));
    return {
      alt: `Pairwise penalty matrix, ${m.where}. ${facts.join("; ") || "No strategy beats another at any budget"}.`,
      traces: [{
        type: "heatmap", z: share, x: labels, y: labels, zmin: 0, zmax: 1, xgap: 2, ygap: 2, hoverongaps: false,
        colorscale: [[0, css("--heat-0")], [1, css("--heat-1")]], text: hover, hovertemplate: "%{text}<extra></extra>",
        showscale: !narrow, colorbar: { thickness: 12, len: 0.9, title: { text: "share of budgets", side: "right", font: { size: 13 } }, outlinewidth: 0 },
      }],
      layout: {
        height: Math.max(340, 150 + 46 * labels.length),
        margin: { l: 40, r: 10, t: 14, b: 40 },
        xaxis: { title: { text: crowded ? "… is beaten, % of budgets" : "… is beaten" }, tickangle: narrow ? -60 : -35, showgrid: false, ticks: "" },
        yaxis: { title: { text: narrow ? "" : "beats …" }, autorange: "reversed", showgrid: false, ticks: "" },
        annotations: share.flatMap((row, i) => row.map((v, j) => (v === null ? null : {
          x: labels[j], y: labels[i], text: cell(v, withStart[i][j]), showarrow: false,
          font: { color: v > 0.5 ? (isDark() ? "#0f1216" : "#ffffff") : css("--ink"), size: narrow ? 11 : 13 },
        })).filter(Boolean)),
      },
    };
  });
  $("ppm-where").addEventListener("change", () => { ppmClasses(); drawPpm(); });
  ["ppm-class", "ppm-correction"].forEach((id) => $(id).addEventListener("change", () => drawPpm()));

  // ---- ranks -----------------------------------------------------------------------------------------------------
  options($("rank-where"), unique(data.ranks.map((r) => r.where)).map((w) => [w, w]));
  const drawRank = figure($("rank"), "There are not enough complete results to rank the strategies.", () => {
    const r = data.ranks.find((one) => one.where === $("rank-where").value && one.measure === $("rank-measure").value);
    if (!r) return null;
    const of = r.strategies.map((n) => strategies.get(n));
    return {
      alt: `Ranks, ${r.where}: ${of.map((s, i) => `${s.label} ${fixed(r.rank[i], 2)}${r.low[i] === null ? "" : ` (${fixed(r.low[i], 1)} to ${fixed(r.high[i], 1)})`}`).join("; ")}.`,
      traces: of.map((s, i) => ({
        x: [r.rank[i]], y: [s.label], mode: "markers", marker: { ...marker(s), size: 11 },
        error_x: r.low[i] === null ? undefined : { type: "data", symmetric: false, array: [r.high[i] - r.rank[i]], arrayminus: [r.rank[i] - r.low[i]], color: colour(s), thickness: 2.2, width: 5 },
        hovertemplate: `<b>${s.label}</b><br>rank %{x:.2f}${r.low[i] === null ? "<br>one seed: no interval" : `<br>95%: ${fixed(r.low[i], 1)} to ${fixed(r.high[i], 1)}`}<extra></extra>`,
      })),
      layout: {
        height: 120 + 40 * of.length, margin: { l: 40, r: 16, t: 10, b: 46 },
        xaxis: { title: { text: "rank (1 is best)" }, range: [0.5, of.length + 0.5], dtick: 1 },
        yaxis: { autorange: "reversed", ticks: "" },
      },
    };
  });
  ["rank-where", "rank-measure"].forEach((id) => $(id).addEventListener("change", () => drawRank()));

  // ---- cost, efficiency, reliability -------------------------------------------------------------------------------
  const lines = (of, visible) => Object.entries(of).filter(([, c]) => known(c.x) && known(c.y)).map(([name, c]) => {
    const s = strategies.get(name);
    return {
      x: c.x, y: c.y, name: s.label, mode: "lines+markers", visible: visible(name), line: { color: colour(s), dash: s.dash, width: 2.2 }, marker: marker(s),
      hovertemplate: `<b>${s.label}</b><br>%{x:,.4~g}: %{y:,.4~g}<extra></extra>`,
    };
  });
  if ($("cost-plot")) {
    options($("cost-where"), settingOptions());
    options($("cost-kind"), Object.entries(data.costs).filter(([kind]) => data.settings.some((s) => Object.values(s.cost[kind]).some((c) => known(c.y)))));
    const draw = figure($("cost-plot"), "No costs are known for this choice.", () => {
      const setting = data.settings[$("cost-where").value], kind = $("cost-kind").value;
      const traces = lines(setting.cost[kind], shown);
      return traces.length && {
        traces, alt: `${data.costs[kind]} against labelled patches, ${setting.title}: ${traces.map((t) => `${t.name} ends at ${t.y[t.y.length - 1]}`).join("; ")}.`,
        layout: { title: { text: setting.title }, xaxis: { title: { text: "labelled patches" } }, yaxis: { title: { text: data.costs[kind] }, rangemode: "tozero" } },
      };
    });
    ["cost-where", "cost-kind"].forEach((id) => $(id).addEventListener("change", () => draw()));
  }
  if ($("efficiency-plot")) {
    options($("efficiency-where"), settingOptions((s) => Object.keys(s.efficiency).length));
    const draw = figure($("efficiency-plot"), "No efficiency is known for this choice.", () => {
      const setting = data.settings[$("efficiency-where").value];
      const traces = [];
      const words = [];
      for (const [name, fit] of Object.entries(setting.efficiency)) {
        const s = strategies.get(name);
        const seeds = Object.values(setting.curves[name].seeds);
        const x = seeds.flatMap((line) => line.x.pool_foreground_share), y = seeds.flatMap((line) => line.y);
        const end = Math.max(...x.filter((v) => v !== null));
        const grid = Array.from({ length: 60 }, (_, i) => fit.x0 + ((end - fit.x0) * i) / 59);
        words.push(`${s.label} ${fit.beta.toFixed(2)} ± ${fit.beta_se.toFixed(2)}`);
        traces.push({ x, y, mode: "markers", marker: { ...marker(s), size: 6 }, visible: shown(name), hovertemplate: `<b>${s.label}</b><br>%{x:.3%}: %{y:.4f}<extra></extra>` });
        traces.push({
          x: grid, y: grid.map((v) => fit.c - (fit.c - fit.y0) * Math.exp(-fit.beta * (v - fit.x0))), mode: "lines", visible: shown(name),
          line: { color: colour(s), dash: s.dash, width: 2 }, hovertemplate: `<b>${s.label}</b><br>β = ${fit.beta.toFixed(2)} ± ${fit.beta_se.toFixed(2)}<extra></extra>`,
        });
      }
      return traces.length && {
        traces, alt: `Foreground efficiency, ${setting.title}: ${words.join("; ")}.`,
        layout: { title: { text: setting.title }, xaxis: { title: { text: "share of the pool's foreground that is labelled" }, tickformat: ".1~%" }, yaxis: { title: { text: "mean test Dice" } } },
      };
    });
    $("efficiency-where").addEventListener("change", () => draw());
  }
  if ($("reliability-plot")) {
    options($("reliability-where"), settingOptions((s) => Object.keys(s.reliability).length));
    const draw = figure($("reliability-plot"), "Calibration was not measured here.", () => {
      const setting = data.settings[$("reliability-where").value];
      const traces = lines(setting.reliability, shown);
      traces.unshift({ x: [0, 1], y: [0, 1], mode: "lines", line: { color: css("--soft"), width: 1, dash: "dot" }, hoverinfo: "skip" });
      return {
        traces, alt: `Reliability of the ensemble, ${setting.title}: accuracy against confidence per strategy; the dotted diagonal is perfect calibration.`,
        layout: { title: { text: setting.title }, xaxis: { title: { text: "confidence" }, range: [0, 1.02] }, yaxis: { title: { text: "accuracy" }, range: [0, 1.02] } },
      };
    });
    $("reliability-where").addEventListener("change", () => draw());
  }

  // ---- trainings -------------------------------------------------------------------------------------------------
  if ($("t-grid")) startTrainings();
  function startTrainings() {
    const { nodes, views, colours } = data.trainings;
    const most = 12; // figures at a time
    const kinds = {
      loss: [["train_loss", "train", 1.8, "solid", 1], ["val_loss", "validation", 1.6, "dot", 1]],
      dice: [["moving_dice", "moving mean", 2.2, "solid", 1], ["online_dice", "each epoch", 1, "solid", 0.4]],
    };
    const dashes = { solid: "", dot: "2 3" };
    const foldColour = (fold) => colours[fold % colours.length][isDark() ? 1 : 0];
    let first = 0;
    views.forEach((view, i) => {
      let group = [...$("t-view").children].find((one) => one.label === view.group);
      if (!group) { group = document.createElement("optgroup"); group.label = view.group; $("t-view").append(group); }
      group.append(new Option(view.title, i));
    });
    const view = () => views[$("t-view").value];
    const longest = () => Math.max(...view().nodes.flatMap((node) => nodes[node].folds.map((f) => f.epochs[f.epochs.length - 1]))) * 1.02;
    function range() { // of all figures of a view, so that they can be compared
      const values = view().nodes.flatMap((node) => nodes[node].folds.flatMap((f) => kinds[$("t-kind").value].flatMap(([name]) => f[name]))).filter((v) => v !== null);
      if ($("t-kind").value === "dice" || !values.length) return [-0.03, 1.03];
      const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
      const room = 0.05 * (high - low || 1);
      return [low - room, high + room];
    }
    function key() {
      const line = (colour, dash, width, alpha) => `<svg viewBox="0 0 30 10" aria-hidden="true"><line x1="0" y1="5" x2="30" y2="5" stroke="${colour}" stroke-width="${width}" stroke-opacity="${alpha}" stroke-dasharray="${dashes[dash]}"/></svg>`;
      const folds = unique(view().nodes.flatMap((node) => nodes[node].folds.map((f) => f.fold))).sort((a, b) => a - b);
      $("t-key").innerHTML = kinds[$("t-kind").value].map(([, word, width, dash, alpha]) => `<span>${line(css("--ink"), dash, width, alpha)}${word}</span>`).join("") +
        folds.map((fold) => `<span>${line(foldColour(fold), "solid", 2.4, 1)}fold ${fold}</span>`).join("");
    }
    const marks = (folds) => {
      const told = (sign, chosen) => (!chosen.length ? [] : [`${sign} ${chosen.length === folds.length ? "all folds" : `fold${chosen.length > 1 ? "s" : ""} ${chosen.map((f) => f.fold).join(", ")}`}`]);
      return [...told("↷", folds.filter((f) => f.start)), ...told("■", folds.filter((f) => f.plateau !== null))].join("  ");
    };
    const draws = Array.from({ length: Math.min(most, Math.max(...views.map((one) => one.nodes.length))) }, (_, place) => {
      const holder = document.createElement("figure"), plot = document.createElement("div");
      plot.className = "plot";
      holder.append(plot);
      $("t-grid").append(holder);
      const draw = figure(plot, "", () => {
        const node = view().nodes[first + place];
        if (!node) return null;
        const kind = $("t-kind").value, { title, folds } = nodes[node];
        const told = marks(folds), dice = kind === "dice";
        const last = (values) => values.filter((v) => v !== null).pop();
        return {
          alt: `${title}, ${dice ? "moving online Dice" : "train and validation loss"} at the end: ` + folds.map((f) =>
            `fold ${f.fold} ${dice ? fixed(last(f.moving_dice)) : `${fixed(last(f.train_loss))} and ${fixed(last(f.val_loss))}`}`).join("; ") + `. ${told}`,
          traces: folds.flatMap((f) => kinds[kind].map(([name, word, width, dash, alpha]) => ({
            x: f.epochs, y: f[name], mode: f.epochs.length > 1 ? "lines" : "markers", line: { color: fade(foldColour(f.fold), alpha), width, dash },
            marker: { color: foldColour(f.fold), symbol: dash === "dot" ? "circle-open" : "circle" },
            hovertemplate: `<b>fold ${f.fold}</b>, ${word}<br>epoch %{x}: %{y:.3f}${f.start ? `<br>weights from ${f.start}` : ""}${f.plateau === null ? "" : `<br>ended early, seen at epoch ${f.plateau}`}<extra></extra>`,
          }))),
          layout: {
            height: 250, margin: { l: 50, r: 8, t: told ? 50 : 34, b: 42 },
            title: { text: told ? `${title}<br><span style="font-size:0.85em">${told}</span>` : title, font: { size: 13 } },
            xaxis: { title: { text: "epoch" }, nticks: 6, range: [0, longest()] },
            yaxis: { title: { text: dice ? "online Dice" : "loss" }, range: range(), nticks: 6 },
            shapes: folds.filter((f) => f.plateau !== null).map((f) => ({
              type: "line", x0: f.plateau, x1: f.plateau, yref: "paper", y0: 0, y1: 1, line: { color: foldColour(f.fold), width: 1, dash: "dot" },
            })),
          },
        };
      });
      return () => { holder.hidden = !view().nodes[first + place]; if (!holder.hidden) draw(); };
    });
    function show() {
      const { group, nodes: all, more } = view(), multiple = $("t-view").children.length > 1, until = Math.min(all.length, first + most);
      $("t-steps").hidden = all.length <= most;
      $("t-prev").disabled = first === 0;
      $("t-next").disabled = until >= all.length;
      $("t-facts").textContent = (multiple ? `${group}. ` : "") + (all.length > most ? `${first + 1} to ${until} of ${all.length} ensembles. ` : "") + (more ? `${more} more are not drawn.` : "");
      key();
      draws.forEach((draw) => draw());
    }
    const begin = () => { first = 0; show(); };
    $("t-view").addEventListener("change", begin);
    $("t-kind").addEventListener("change", show);
    $("t-prev").addEventListener("click", () => { first -= most; show(); });
    $("t-next").addEventListener("click", () => { first += most; show(); });
    redraw.push(key);
    begin();
  }

  // ---- tables ----------------------------------------------------------------------------------------------------
  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.v;
      const rows = [...body.rows];
      const numeric = rows.every((r) => key(r) === "" || Number.isFinite(Number(key(r))));
      rows.sort((a, b) => {
        const p = key(a), q = key(b);
        if (p === "" || q === "") return p === q ? 0 : p === "" ? 1 : -1; // what is not known stays last
        const order = numeric ? Number(p) - Number(q) : p.localeCompare(q, "en", { numeric: true });
        return down ? -order : order;
      });
      body.append(...rows);
    }));
    const head = table.parentElement.previousElementSibling;
    const caption = head.textContent.trim();
    const tools = document.createElement("span");
    tools.className = "tools";
    const where = [...new Set([...body.rows].filter((row) => row.cells[0].classList.contains("setting")).map((row) => row.cells[0].textContent))];
    if (where.length > 1) {
      const filter = document.createElement("select");
      filter.setAttribute("aria-label", `Setting to show: ${caption}`);
      options(filter, [["", "all settings"], ...where.map((name) => [name, name])]);
      filter.addEventListener("change", () => {
        for (const row of body.rows) row.hidden = filter.value !== "" && row.cells[0].textContent !== filter.value;
      });
      tools.append(filter);
    }
    const save = document.createElement("button");
    save.type = "button";
    save.className = "save";
    save.textContent = "Save as CSV";
    save.setAttribute("aria-label", `Save as CSV: ${caption}`);
    save.addEventListener("click", () => {
      const quote = (text) => `"${text.trim().replaceAll('"', '""')}"`;
      const shown = [...table.rows].filter((row) => !row.hidden);
      const rows = shown.map((row) => [...row.cells].map((c) => quote(c.textContent)).join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([`${rows.join("\n")}\n`], { type: "text/csv" }));
      link.download = `${table.id.replace("table-", "")}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    tools.append(save);
    head.append(tools);
  });

  // ---- gallery ---------------------------------------------------------------------------------------------------
  if ($("g-view")) startGallery();
  function startGallery() {
    const g = data.gallery;
    const ramp = data.colours.map((hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)));
    const axes = ["z", "y", "x"];
    const planes = [...document.querySelectorAll(".plane")];
    let current = null; // the patch on show, with its decoded volumes
    let turn = 0;

    const groups = new Map();
    for (const t of data.trajectories.filter((one) => g.index[one.id])) {
      const name = `${t.dataset}, ${t.regime}`;
      if (!groups.has(name)) { const group = document.createElement("optgroup"); group.label = name; groups.set(name, group); $("g-trajectory").append(group); }
      groups.get(name).append(new Option(`${strategies.get(t.strategy).label}, seed ${t.seed}`, t.id));
    }
    const trajectory = () => data.trajectories.find((t) => t.id === $("g-trajectory").value);
    const query = () => g.queries[g.index[$("g-trajectory").value][$("g-cycle").value]];
    function fillCycles() {
      const cycles = Object.keys(g.index[$("g-trajectory").value]).sort((a, b) => a - b);
      const before = $("g-cycle").value;
      options($("g-cycle"), cycles.map((c) => [c, c === "0" ? "0 (start)" : c]));
      $("g-cycle").value = cycles.includes(before) ? before : cycles[cycles.length - 1];
      fillPatches();
    }
    function fillPatches() {
      const q = query();
      options($("g-patch"), q.patches.map((p, i) => [i, `rank ${p.rank}: ${p.case}`]));
      showPatch();
    }
    function decode(uri, depth, height, width) {
      return new Promise((resolve, reject) => {
        const picture = new Image();
        picture.onload = () => {
          const canvas = document.createElement("canvas");
          canvas.width = width;
          canvas.height = height * depth;
          const context = canvas.getContext("2d", { willReadFrequently: true });
          context.drawImage(picture, 0, 0);
          const rgba = context.getImageData(0, 0, width, height * depth).data;
          const volume = new Uint8Array(width * height * depth);
          for (let i = 0; i < volume.length; i += 1) volume[i] = rgba[4 * i];
          resolve(volume);
        };
        picture.onerror = reject;
        picture.src = uri;
      });
    }
    async function showPatch() {
      const q = query();
      const p = q.patches[Number($("g-patch").value) || 0];
      const mine = (turn += 1);
      $("g-prev").disabled = Number($("g-patch").value) <= 0;
      $("g-next").disabled = Number($("g-patch").value) >= q.patches.length - 1;
      if (!p) { current = null; $("g-facts").textContent = "This query has no pictures."; return; }
      const volumes = {};
      for (const kind of ["image", "uncertainty", "label"]) volumes[kind] = p[kind] ? await decode(p[kind], ...p.shape) : null;
      if (mine !== turn) return;
      current = { p, q, volumes, classes: data.classColours[trajectory().dataset] };
      axes.forEach((axis, k) => {
        const slider = $(`g-slice-${axis}`);
        slider.max = p.shape[k] - 1;
        slider.value = Math.min(p.shape[k] - 1, Math.floor(((p.box[k][0] + p.box[k][1]) / 2) * p.shape[k]));
      });
      const more = q.asked > q.patches.length ? ` (${q.patches.length} of ${q.asked} queried patches are kept here)` : "";
      const score = p.score === null ? "" : `, score ${Number(p.score.toPrecision(4))}`;
      const part = p.component === "all" ? "" : `, chosen for ${p.component}`;
      const where = groups.size > 1 ? `${trajectory().dataset}, ${trajectory().regime}, ` : "";
      $("g-facts").textContent = `${where}${p.case}: patch ${p.size.join(" × ")} voxels at z, y, x = ${p.start.join(", ")}, rank ${p.rank}${score}${part}${more}.`;
      for (const kind of ["uncertainty", "label"]) {
        document.querySelectorAll(`[data-panel="${kind}"]`).forEach((panel) => { panel.hidden = !p[kind]; });
      }
      $("g-scale").innerHTML = p.uncertainty ? "" : "This strategy needs no uncertainty map.";
      if (p.uncertainty) {
        const bar = document.createElement("span");
        bar.className = "ramp";
        bar.style.background = `linear-gradient(90deg, ${data.colours.filter((_, i) => i % 25 === 0).join(",")})`;
        $("g-scale").append(`${q.map.replaceAll("_", " ")}: 0`, bar, `${q.highest.toPrecision(2)} nats`);
      }
      $("g-classes").innerHTML = "";
      if (p.label) for (const one of current.classes) {
        const dot = document.createElement("i");
        dot.className = "dot";
        dot.style.background = one.colour;
        $("g-classes").append(dot, one.name);
      }
      planes.forEach((_, k) => drawPlane(k));
    }
    const voxel = (p, axis, at) => p.low[axis] + Math.floor(((at + 0.5) * p.crop[axis]) / p.shape[axis]);
    const hex = (text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));
    function drawPlane(axis) {
      if (!current) return;
      const { p, q, volumes, classes } = current;
      const [rows, columns] = [0, 1, 2].filter((k) => k !== axis);
      const at = Number($(`g-slice-${axes[axis]}`).value);
      const strides = [p.shape[1] * p.shape[2], p.shape[2], 1];
      const height = p.shape[rows], width = p.shape[columns];
      const place = axis === 0 ? p.slices[at] : voxel(p, axis, at);
      $(`g-out-${axes[axis]}`).textContent = `${axes[axis]} = ${place}`;
      const tints = classes.map((one) => hex(one.colour));
      planes[axis].querySelectorAll("canvas").forEach((canvas) => {
        const kind = canvas.dataset.kind;
        const small = document.createElement("canvas");
        small.width = width;
        small.height = height;
        const context = small.getContext("2d");
        const pixels = context.createImageData(width, height);
        for (let r = 0; r < height; r += 1) for (let c = 0; c < width; c += 1) {
          const row = rows === 0 ? height - 1 - r : r; // z points up
          const i = at * strides[axis] + row * strides[rows] + c * strides[columns];
          const grey = volumes.image[i];
          let tint = null, weight = 0;
          if (kind === "uncertainty" && volumes.uncertainty) { tint = ramp[volumes.uncertainty[i]]; weight = 0.7; }
          if (kind === "label" && volumes.label && volumes.label[i]) { tint = tints[volumes.label[i] - 1]; weight = volumes.label[i] === 1 ? 0.3 : 0.6; }
          const k = 4 * (r * width + c);
          for (let n = 0; n < 3; n += 1) pixels.data[k + n] = tint ? (1 - weight) * grey + weight * tint[n] : grey;
          pixels.data[k + 3] = 255;
        }
        context.putImageData(pixels, 0, 0);
        const scale = 420 / Math.max(p.extent[rows], p.extent[columns]);
        canvas.width = Math.max(2, Math.round(p.extent[columns] * scale));
        canvas.height = Math.max(2, Math.round(p.extent[rows] * scale));
        const view = canvas.getContext("2d");
        view.imageSmoothingEnabled = kind !== "label";
        view.drawImage(small, 0, 0, canvas.width, canvas.height);
        const inside = (at + 0.5) / p.shape[axis] >= p.box[axis][0] && (at + 0.5) / p.shape[axis] <= p.box[axis][1];
        view.strokeStyle = "#00e5ff";
        view.lineWidth = 3;
        view.setLineDash(inside ? [] : [8, 7]);
        const [top, bottom] = (rows === 0 ? [1 - p.box[0][1], 1 - p.box[0][0]] : p.box[rows]).map((f) => f * canvas.height), [left, right] = p.box[columns].map((f) => f * canvas.width);
        view.strokeRect(left, top, right - left, bottom - top);
        const words = { image: "image", uncertainty: p.uncertainty ? `${q.map} over the image` : "image, no uncertainty map", label: p.label ? "labels over the image" : "image, no labels" };
        canvas.setAttribute("aria-label", `${p.case}, rank ${p.rank}, ${axes[axis]} = ${place}: ${words[kind]}; the outline is the queried patch.`);
      });
    }
    $("g-trajectory").addEventListener("change", fillCycles);
    $("g-cycle").addEventListener("change", fillPatches);
    $("g-patch").addEventListener("change", showPatch);
    const step = (by) => { $("g-patch").value = Number($("g-patch").value) + by; showPatch(); };
    $("g-prev").addEventListener("click", () => step(-1));
    $("g-next").addEventListener("click", () => step(1));
    axes.forEach((axis, k) => $(`g-slice-${axis}`).addEventListener("input", () => drawPlane(k)));
    const first = data.trajectories.find((t) => g.index[t.id] && Object.values(g.index[t.id]).some((key) => g.queries[key].map));
    if (first) $("g-trajectory").value = first.id;
    fillCycles();
  }

  applyTheme();
})();
