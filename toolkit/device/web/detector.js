// What a page needs besides an engine: spec.json, pixels to a network's input, decoding of raw head maps,
// suppression, cuts of faces. The same arithmetic as toolkit/models/decode.py, toolkit/boxes.py and
// toolkit/faces.py, which the project's tests hold it to. No library, no page.

const LARGEST = 20; // of tw and th: boxes stay finite
const BORDER = 127.5; // beside a picture that keeps its proportions
const OUTSIDE = 127; // grey of a cut where there is no picture

const KEYS = ["input_size", "classes", "heads", "stride", "channel_order", "mean", "scale", "fit"];
const HEAD_KEYS = ["stride", "anchors", "scale_x_y", "new_coords", "softmax", "gaussian"];
const LANDMARK_KEYS = ["input_size", "points", "crop", "channel_order", "mean", "scale"];

// What a newer toolkit may say of a network changes its boxes: better none than wrong ones.
function check(object, known, place) {
  for (const key of Object.keys(object)) {
    if (!known.includes(key)) {
      throw new Error(`spec.json: this page does not know ${key} of ${place}: package it with a newer toolkit`);
    }
  }
}

function oneOf(value, known, key) {
  if (!known.includes(value)) {
    throw new Error(`spec.json: ${key} is ${value}, and this page knows ${known.join(", ")}: package it with a newer toolkit`);
  }
  return value;
}

function readInput(io, orders) {
  const [width, height] = io.input_size;
  return {
    width,
    height,
    order: oneOf(io.channel_order, orders, "channel_order"),
    channels: io.channel_order === "GRAY" ? 1 : 3,
    letterbox: oneOf(io.fit ?? "stretch", ["stretch", "letterbox"], "fit") === "letterbox",
    mean: io.mean,
    scale: io.scale,
  };
}

// A detector's or a landmark network's spec.json.
export function readSpec(document) {
  const io = document.io;
  if ("points" in io) {
    check(io, LANDMARK_KEYS, "io");
    return { name: document.name, task: "landmarks", input: readInput(io, ["RGB", "BGR"]), points: io.points, crop: io.crop };
  }
  check(io, KEYS, "io");
  const heads = io.heads.map((head) => {
    check(head, HEAD_KEYS, "a head");
    return { scale_x_y: 1, new_coords: false, softmax: false, gaussian: false, ...head };
  });
  const threshold = document.threshold ?? 0.25;
  return { name: document.name, task: "detection", input: readInput(io, ["RGB", "BGR", "GRAY"]), classes: io.classes, heads, threshold };
}

// --- pixels ---------------------------------------------------------------------------------------------------

// Where a picture of width x height lies in the input. A letterbox is centred, by darknet's integers.
export function placement(input, width, height) {
  if (!input.letterbox) return { width: input.width, height: input.height, left: 0, top: 0 };
  const wide = input.width / width < input.height / height;
  const w = wide ? input.width : Math.max(1, Math.trunc((width * input.height) / height));
  const h = wide ? Math.max(1, Math.trunc((height * input.width) / width)) : input.height;
  return { width: w, height: h, left: Math.trunc((input.width - w) / 2), top: Math.trunc((input.height - h) / 2) };
}

// For each of `count` rows or columns of the result: the two of the picture that it lies between, and their
// shares in 2048ths, as OpenCV's INTER_LINEAR has them.
function taps(count, side) {
  const low = new Int32Array(count);
  const high = new Int32Array(count);
  const first = new Int32Array(count);
  const second = new Int32Array(count);
  const scale = 1 / (count / side);
  for (let i = 0; i < count; i++) {
    const at = Math.fround((i + 0.5) * scale - 0.5); // pixels count from their centres
    const place = Math.min(Math.max(Math.floor(at), 0), side - 1);
    const inside = at > 0 && at < side - 1;
    const share = inside ? Math.fround(at - place) : 0;
    low[i] = place;
    high[i] = Math.min(place + 1, side - 1);
    first[i] = even((1 - share) * 2048);
    second[i] = even(share * 2048);
  }
  return { low, high, first, second };
}

// Rounded to the nearest whole number, halves to the even one.
function even(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

function planes(order) {
  return order === "BGR" ? [2, 1, 0] : [0, 1, 2];
}

// A picture's pixels (RGBA bytes of ImageData) as the network's input, float32 planes; bytes between are those of
// OpenCV's resize. `out` is memory to use.
export function preprocess(image, input, out = new Float32Array(input.channels * input.width * input.height)) {
  const { data, width, height } = input.channels === 1 ? grey(image) : image;
  const place = placement(input, width, height);
  const area = input.width * input.height;
  if (place.width !== input.width || place.height !== input.height) out.fill((BORDER - input.mean) * input.scale);
  const halved = width === 2 * place.width && height === 2 * place.height; // means of four pixels there
  const rows = taps(place.height, height);
  const columns = taps(place.width, width);
  const bytes = input.channels === 1 ? 1 : 4;
  const order = input.channels === 1 ? [0] : planes(input.order);
  for (let y = 0; y < place.height; y++) {
    const above = rows.low[y] * width;
    const below = rows.high[y] * width;
    const start = (y + place.top) * input.width + place.left;
    for (let x = 0; x < place.width; x++) {
      const a = bytes * (above + columns.low[x]);
      const b = bytes * (above + columns.high[x]);
      const c = bytes * (below + columns.low[x]);
      const d = bytes * (below + columns.high[x]);
      for (let plane = 0; plane < order.length; plane++) {
        const k = order[plane];
        let value;
        if (halved) {
          value = (data[a + k] + data[b + k] + data[c + k] + data[d + k] + 2) >> 2;
        } else {
          const upper = (data[a + k] * columns.first[x] + data[b + k] * columns.second[x]) >> 4;
          const lower = (data[c + k] * columns.first[x] + data[d + k] * columns.second[x]) >> 4;
          value = (((rows.first[y] * upper) >> 16) + ((rows.second[y] * lower) >> 16) + 2) >> 2;
        }
        out[plane * area + start + x] = (value - input.mean) * input.scale;
      }
    }
  }
  return out;
}

// The luminance of a picture, as OpenCV's: 0.299, 0.587 and 0.114 times 32768.
function grey({ data, width, height }) {
  const bytes = new Uint8Array(width * height);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = (9798 * data[4 * i] + 19235 * data[4 * i + 1] + 3735 * data[4 * i + 2] + 16384) >> 15;
  }
  return { data: bytes, width, height };
}

// --- boxes ----------------------------------------------------------------------------------------------------

function softmax(values) {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// Objects of one raw map, appended to `found`. `map`: float32, channels A * (values + classes), each h rows of w.
// A cell counts where its objectness is above `conf`, a class there where the score is.
function decodeHead(map, w, h, head, classes, conf, found) {
  const squash = head.new_coords ? (v) => v : (v) => 1 / (1 + Math.exp(-v));
  const s = head.scale_x_y;
  const values = head.gaussian ? 9 : 5;
  const next = head.gaussian ? 2 : 1; // from a number of the box to the next
  const area = w * h;
  head.anchors.forEach(([anchorWidth, anchorHeight], a) => {
    const first = a * (values + classes) * area;
    for (let i = 0; i < area; i++) {
      const at = (channel) => map[first + channel * area + i];
      const objectness = squash(at(values - 1));
      if (!(objectness > conf)) continue;
      const column = i % w;
      const row = (i - column) / w;
      const x = (column + squash(at(0)) * s - (s - 1) / 2) / w;
      const y = (row + squash(at(next)) * s - (s - 1) / 2) / h;
      const tw = at(2 * next);
      const th = at(3 * next);
      const width = ((head.new_coords ? 4 * tw * tw : Math.exp(Math.min(tw, LARGEST))) * anchorWidth) / (w * head.stride);
      const height = ((head.new_coords ? 4 * th * th : Math.exp(Math.min(th, LARGEST))) * anchorHeight) / (h * head.stride);
      let certainty = 1;
      for (let k = 1; head.gaussian && k < 8; k += 2) certainty -= squash(at(k)) / 4;
      const logits = Array.from({ length: classes }, (_, c) => at(values + c));
      const shares = head.softmax ? softmax(logits) : logits.map(squash);
      shares.forEach((share, label) => {
        const score = objectness * share * certainty;
        if (score > conf) {
          found.push({ x1: x - width / 2, y1: y - height / 2, x2: x + width / 2, y2: y + height / 2, score, label });
        }
      });
    }
  });
}

export function iou(a, b) {
  const w = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const h = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (w <= 0 || h <= 0) return 0;
  const shared = w * h;
  return shared / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared);
}

// Greedy suppression within each class; by falling score.
export function suppress(found, threshold) {
  const kept = [];
  for (const candidate of [...found].sort((a, b) => b.score - a.score)) {
    if (!kept.some((k) => k.label === candidate.label && iou(k, candidate) > threshold)) kept.push(candidate);
  }
  return kept;
}

// Raw maps, [{data, dims}] coarsest first, to detections of a picture of width x height: corners relative to the
// picture, 0..1, not clipped.
export function postprocess(maps, spec, width, height, conf, overlap) {
  let found = [];
  maps.forEach(({ data, dims }, i) => {
    const head = spec.heads[i];
    const channels = head.anchors.length * ((head.gaussian ? 9 : 5) + spec.classes.length);
    if (dims[1] !== channels) {
      throw new Error(`${spec.name} gives a map of ${dims[1]} channels, not ${channels}: export the network again`);
    }
    decodeHead(data, dims[3], dims[2], head, spec.classes.length, conf, found);
  });
  found = suppress(found, overlap);
  const place = placement(spec.input, width, height);
  const across = spec.input.width / place.width;
  const down = spec.input.height / place.height;
  const left = place.left / place.width;
  const top = place.top / place.height;
  return found.map((d) => ({
    ...d,
    x1: d.x1 * across - left,
    y1: d.y1 * down - top,
    x2: d.x2 * across - left,
    y2: d.y2 * down - top,
  }));
}

// --- faces ----------------------------------------------------------------------------------------------------

// What to cut out around a face for the landmark network, in pixels: start and length, across and down.
export function windowOf(face, spec, width, height) {
  const [side, up, down] = spec.crop;
  const x = ((face.x1 + face.x2) / 2) * width;
  const y = ((face.y1 + face.y2) / 2) * height;
  const w = (face.x2 - face.x1) * width;
  const h = (face.y2 - face.y1) * height;
  return {
    x: { start: x - side * w, length: Math.max(1, 2 * side * w) },
    y: { start: y - up * h, length: Math.max(1, (up + down) * h) },
  };
}

function spanTaps({ start, length }, count, side) {
  return Array.from({ length: count }, (_, i) => {
    const at = start + ((i + 0.5) * length) / count - 0.5;
    const low = Math.floor(at);
    const inside = (k) => k >= 0 && k < side;
    return {
      low: inside(low) ? low : 0,
      high: inside(low + 1) ? low + 1 : 0,
      lowShare: inside(low) ? low + 1 - at : 0,
      highShare: inside(low + 1) ? at - low : 0,
    };
  });
}

// A window of a picture as the landmark network's input, bilinear, grey outside the picture.
export function cut({ data, width, height }, window, input) {
  const out = new Float32Array(3 * input.width * input.height);
  const rows = spanTaps(window.y, input.height, height);
  const columns = spanTaps(window.x, input.width, width);
  let at = 0;
  for (const k of planes(input.order)) {
    for (const row of rows) {
      for (const column of columns) {
        const mixed = (line) =>
          column.lowShare * (data[4 * (line * width + column.low) + k] - OUTSIDE) +
          column.highShare * (data[4 * (line * width + column.high) + k] - OUTSIDE);
        const value = OUTSIDE + row.lowShare * mixed(row.low) + row.highShare * mixed(row.high);
        out[at++] = (value - input.mean) * input.scale;
      }
    }
  }
  return out;
}

// Points, 2 numbers each, relative to a window -> [x, y] in pixels of the picture.
export function pointsOf(relative, window) {
  return Array.from({ length: relative.length / 2 }, (_, i) => [
    window.x.start + relative[2 * i] * window.x.length,
    window.y.start + relative[2 * i + 1] * window.y.length,
  ]);
}
