"use strict";
// Labels of a box: arrays of class indices (0 background), x fastest as in the file. All here are functions of arrays.
const labels = (() => {
  const sizeOf = (box) => box.high.map((high, k) => high - box.low[k]);
  const countOf = (box) => sizeOf(box).reduce((product, n) => product * n, 1);

  /** Index of the first voxel of each row of the box, in a volume whose axes have these strides; f(index, row). */
  function eachRow(box, start, strides, f) {
    const [nx, ny, nz] = sizeOf(box);
    for (let z = 0, row = 0; z < nz; z += 1) for (let y = 0; y < ny; y += 1, row += nx) {
      f(start + box.low[0] * strides[0] + (box.low[1] + y) * strides[1] + (box.low[2] + z) * strides[2], row, nx);
    }
  }

  /** The box of a volume. `layout` is where voxel (0, 0, 0) lies in it and the strides of its axes. */
  function cut(volume, box, layout) {
    const found = new Uint8Array(countOf(box)), stride = layout.strides[0];
    eachRow(box, layout.start, layout.strides, (index, row, nx) => { for (let x = 0; x < nx; x += 1) found[row + x] = volume[index + x * stride]; });
    return found;
  }

  /** Put the box into a volume; `map` turns class indices into the volume's values. */
  function paste(volume, box, layout, values, map = null) {
    const stride = layout.strides[0];
    eachRow(box, layout.start, layout.strides, (index, row, nx) => {
      for (let x = 0; x < nx; x += 1) volume[index + x * stride] = map ? map[values[row + x]] : values[row + x];
    });
  }

  const layoutOf = (shape) => ({ start: 0, strides: [1, shape[0], shape[0] * shape[1]] });
  const equal = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
  const inside = (box, ijk) => ijk.every((v, k) => v >= box.low[k] && v < box.high[k]);

  /** A plane of the box across `axis`: its size, and the place in the box of its pixel i. */
  function planeOf(box, axis, at) {
    const size = sizeOf(box), strides = layoutOf(size).strides;
    const [u, v] = [0, 1, 2].filter((k) => k !== axis);
    const start = (at - box.low[axis]) * strides[axis];
    return { u, v, width: size[u], height: size[v], place: (i) => start + (i % size[u]) * strides[u] + Math.floor(i / size[u]) * strides[v] };
  }

  /** What touches the voxel in its plane across `axis` and has its class, gets another. */
  function fill(values, box, ijk, axis, index) {
    const { u, v, width, height, place } = planeOf(box, axis, ijk[axis]);
    const first = ijk[u] - box.low[u] + (ijk[v] - box.low[v]) * width;
    const out = values.slice(), old = values[place(first)];
    if (old === index) return out;
    const todo = [first];
    while (todo.length) {
      const i = todo.pop();
      if (out[place(i)] !== old) continue;
      out[place(i)] = index;
      const column = i % width, row = (i - column) / width;
      if (column > 0) todo.push(i - 1);
      if (column < width - 1) todo.push(i + 1);
      if (row > 0) todo.push(i - width);
      if (row < height - 1) todo.push(i + width);
    }
    return out;
  }

  /** Distance of each pixel to the edge of a mask, in units of the spacing: above 0 inside, below outside. */
  function signedDistance(mask, width, height, dx, dy) {
    const edges = [[], []]; // of the outside and of the inside: [column, row] pairs
    for (let i = 0; i < mask.length; i += 1) {
      const column = i % width, row = (i - column) / width;
      const other = (j, there) => there && mask[j] !== mask[i];
      if (other(i - 1, column > 0) || other(i + 1, column < width - 1) || other(i - width, row > 0) || other(i + width, row < height - 1)) edges[mask[i]].push([column, row]);
    }
    return Float32Array.from(mask, (is, i) => {
      const column = i % width, row = (i - column) / width;
      let best = Infinity;
      for (const [c, r] of edges[1 - is]) best = Math.min(best, ((c - column) * dx) ** 2 + ((r - row) * dy) ** 2);
      return (is ? 1 : -1) * Math.sqrt(best);
    });
  }

  /**
   * Shape-based interpolation (Raya and Udupa, IEEE TMI 1990): between planes across `axis` that hold the class, those
   * that lack it get it where the distances to its edge, weighed by nearness, say inside. Other classes stay.
   * Returns null where there is nothing between.
   */
  function interpolate(values, box, axis, index, spacing) {
    const planes = [];
    for (let at = box.low[axis]; at < box.high[axis]; at += 1) {
      const plane = planeOf(box, axis, at);
      const mask = Uint8Array.from({ length: plane.width * plane.height }, (_, i) => (values[plane.place(i)] === index ? 1 : 0));
      planes.push({ ...plane, mask, holds: mask.includes(1) });
    }
    const held = planes.flatMap((plane, at) => (plane.holds ? [at] : []));
    const gaps = held.slice(1).map((to, i) => [held[i], to]).filter(([from, to]) => to - from > 1);
    if (!gaps.length) return null;
    const out = values.slice();
    for (const [from, to] of gaps) {
      const [low, high] = [from, to].map((at) => {
        const { u, v, width, height, mask } = planes[at];
        return signedDistance(mask, width, height, spacing[u], spacing[v]);
      });
      for (let at = from + 1; at < to; at += 1) {
        const near = (at - from) / (to - from);
        for (let i = 0; i < low.length; i += 1) {
          const place = planes[at].place(i);
          if (out[place] === 0 && (1 - near) * low[i] + near * high[i] > 0) out[place] = index;
        }
      }
    }
    return out;
  }

  return { cut, paste, layoutOf, equal, inside, countOf, sizeOf, fill, interpolate };
})();
