// The page: what is looked at, with what, and what is shown of it.

import { measure, reading, table } from "./bench.js";
import { colourOf, draw } from "./draw.js";
import { backends, mostThreads, Network } from "./engine.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const pixels = document.createElement("canvas"); // the picture without boxes
const context = pixels.getContext("2d", { willReadFrequently: true });

let index; // models/page.json
let session = null; // of the computer that serves the page and takes readings: {picture, file, tasks}
let network;
let landmarks;
let loadMs = 0;
let hidden = new Set(); // labels
let source = null; // {kind: "camera" | "video" | "picture", element, name}
let facing = "environment";
let stream = null;
let busy = false; // a network is being opened or timed
let last = null; // {image, found, points, ms}
let lastReading = null;

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function failed(error) {
  say(String(error?.message ?? error), true);
}

// --- networks -------------------------------------------------------------------------------------------------

function entryOf(name) {
  return index.models.find((entry) => entry.folder === name) ?? index.models[0];
}

// The network that is chosen, instead of the one before, which stays where this one does not open.
async function load() {
  busy = true;
  enable(false);
  const entry = entryOf($("model").value);
  say(`Loading ${entry.name}.`);
  try {
    const backend = $("backend").value;
    const threads = Number($("threads").value);
    const begin = performance.now();
    const opened = await Network.open(entry, backend, threads);
    await opened.run(new Float32Array(opened.spec.input.channels * opened.spec.input.width * opened.spec.input.height));
    loadMs = performance.now() - begin;
    const placing = index.landmarks ? await Network.open(index.landmarks, backend, threads) : null;
    await network?.close();
    await landmarks?.close();
    network = opened;
    landmarks = placing;
    showNetwork();
    say("Ready.");
  } finally {
    busy = false;
    enable(true);
  }
}

async function open() {
  try {
    await load();
    await again();
  } catch (error) {
    failed(error);
  }
}

function showNetwork() {
  const { spec, entry } = network;
  $("summary").textContent = `${entry.name}, ${spec.input.width}x${spec.input.height}, ${spec.classes.length === 1 ? spec.classes[0] : `${spec.classes.length} classes`}`;
  $("size").textContent = Math.round(entry.bytes / 1000).toLocaleString("en");
  $("conf").value = spec.threshold;
  showValues();
  $("points-row").hidden = !landmarks;
  hidden = new Set();
  const legend = $("classes").querySelector("legend");
  $("classes").replaceChildren(legend, ...spec.classes.map(classRow));
}

function classRow(name, label) {
  const row = document.createElement("label");
  row.className = "check";
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(label);
    else hidden.add(label);
    show();
  });
  row.append(box, name);
  return row;
}

function everyClass(shown) {
  hidden = new Set(shown ? [] : network.spec.classes.keys());
  for (const box of $("classes").querySelectorAll("input")) box.checked = shown;
  show();
}

function enable(on) {
  for (const id of ["model", "backend", "threads", "camera", "file"]) $(id).disabled = !on;
  $("bench").disabled = !on || !last;
  $("turn").disabled = !on || source?.kind !== "camera";
}

function showValues() {
  $("conf-value").textContent = Number($("conf").value).toFixed(2);
  $("overlap-value").textContent = Number($("overlap").value).toFixed(2);
}

function settings() {
  return { conf: Number($("conf").value), overlap: Number($("overlap").value) };
}

// --- pictures -------------------------------------------------------------------------------------------------

// The pixels of what is looked at now.
function grab() {
  const { element } = source;
  const width = element.videoWidth ?? element.width;
  const height = element.videoHeight ?? element.height;
  if (pixels.width !== width || pixels.height !== height) Object.assign(pixels, { width, height });
  context.drawImage(element, 0, 0);
  return context.getImageData(0, 0, width, height);
}

async function look() {
  const image = grab();
  const { found, ms } = await network.detect(image, settings());
  let points = null;
  if (landmarks && $("points").checked) {
    const placed = await landmarks.place(image, found);
    points = placed.points;
    ms.landmarks = placed.ms;
  }
  last = { image, found, points, ms };
  show();
}

function show() {
  if (!last) return;
  const { image, found, points, ms } = last;
  const places = found.map((_, i) => i).filter((i) => !hidden.has(found[i].label));
  const objects = places.map((i) => found[i]);
  $("empty").hidden = true;
  draw(canvas, pixels, image.width, image.height, objects, network.spec.classes, points && places.map((i) => points[i]));
  $("count").textContent = objects.length;
  $("ms").textContent = Object.values(ms).reduce((a, b) => a + b, 0).toFixed(1);
  canvas.setAttribute("aria-label", described(objects));
  if ($("results").open) $("rows").replaceChildren(...objects.slice(0, 200).map((d) => resultRow(d, image)));
}

function described(objects) {
  const counts = new Map();
  for (const { label } of objects) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].map(([label, count]) => `${count} ${network.spec.classes[label]}`);
  return parts.length ? `Found: ${parts.join(", ")}` : "Nothing found";
}

function resultRow(d, { width, height }) {
  const row = document.createElement("tr");
  const box = [d.x1 * width, d.y1 * height, d.x2 * width, d.y2 * height].map((v) => Math.round(v)).join(" ");
  const texts = [network.spec.classes[d.label], d.score.toFixed(3), box];
  row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  row.firstChild.style.borderLeft = `6px solid ${colourOf(d.label)}`;
  row.firstChild.style.paddingLeft = "8px";
  return row;
}

// Looks again at a picture that stands still.
async function again() {
  if (source?.kind === "picture" && network && !busy) await look().catch(failed);
  $("bench").disabled = busy || !last;
}

// Looks at every frame that there is time for.
async function follow(own) {
  while (source === own) {
    if (!busy && own.element.readyState >= 2) await look().catch(failed);
    if (own.kind === "video" && own.element.ended) break;
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  if (source?.kind === "video") URL.revokeObjectURL(source.element.src);
  source = null;
  $("video").removeAttribute("src");
  $("video").srcObject = null;
  $("camera").textContent = "Start camera";
  $("turn").disabled = true;
}

async function startCamera() {
  stop();
  if (!navigator.mediaDevices?.getUserMedia) {
    say("This browser gives no camera to a page without https: open the page by https, or open a picture.", true);
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: facing, width: { ideal: 1280 } } });
    $("video").srcObject = stream;
    await $("video").play();
  } catch (error) {
    stop();
    say(`The camera cannot be used (${error.name}): allow it in the browser's settings, or open a picture.`, true);
    return;
  }
  source = { kind: "camera", element: $("video"), name: "camera" };
  $("camera").textContent = "Stop camera";
  $("turn").disabled = false;
  say("Camera is on.");
  $("bench").disabled = false;
  follow(source);
}

async function openPicture(blob, name) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  source = { kind: "picture", element: bitmap, name };
}

async function openFile(file) {
  stop();
  if (file.type.startsWith("video/")) {
    const video = $("video");
    video.src = URL.createObjectURL(file);
    video.loop = true;
    try {
      await video.play();
    } catch {
      stop();
      say(`${file.name} is not a video that this browser plays.`, true);
      return;
    }
    source = { kind: "video", element: video, name: file.name };
    say(file.name);
    $("bench").disabled = false;
    follow(source);
    return;
  }
  try {
    await openPicture(file, file.name);
  } catch {
    say(`${file.name} is not a picture that this browser opens.`, true);
    return;
  }
  say(file.name);
  await again();
}

// --- benchmark ------------------------------------------------------------------------------------------------

async function bench() {
  busy = true;
  enable(false);
  const tell = (text) => ($("bench-status").textContent = text);
  try {
    const { image } = last;
    const placing = landmarks && $("points").checked ? landmarks : null;
    const measured = await measure(network, placing, image, settings(), tell);
    const rows = table(measured).map(({ name, median, p90 }) => {
      const row = document.createElement("tr");
      const texts = [name, median.toFixed(2), p90.toFixed(2)];
      row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    });
    $("stages").tBodies[0].replaceChildren(...rows);
    lastReading = await reading(network, placing, source?.name ?? "picture", image, settings(), loadMs, measured);
    $("save").disabled = false;
    const timed = `${measured.samples.start.length} pictures timed`;
    if (session) await send("readings", lastReading);
    tell(session ? `${timed}, and sent to the computer.` : `${timed}.`);
  } catch (error) {
    tell(String(error?.message ?? error));
  } finally {
    busy = false;
    enable(true);
    await again(); // the time above is that of a warm engine now
  }
}

function save() {
  const blob = new Blob([JSON.stringify({ readings: [lastReading] }, null, 1)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "readings.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

// --- the computer that serves the page ------------------------------------------------------------------------

async function send(place, data) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(place, { method: "POST", headers, body: JSON.stringify(data) });
  if (!response.ok) throw new Error((await response.json()).error);
}

// A benchmark that the computer asks for, with the network's own threshold.
async function perform({ model, backend, threads, warmup, loops, seconds, cooldown }, image) {
  if (threads > mostThreads()) throw new Error(`this browser gives the page ${mostThreads()} thread(s), not ${threads}`);
  $("model").value = index.models.find((entry) => entry.name === model).folder;
  $("backend").value = backend;
  if ($("backend").value !== backend) throw new Error(`this browser has no ${backend}`);
  $("threads").value = threads;
  await load();
  busy = true;
  enable(false);
  try {
    const rules = { ...settings(), conf: network.spec.threshold };
    const length = { warmup: { loops: warmup }, timed: seconds ? { seconds } : { loops } };
    const measured = await measure(network, landmarks, image, rules, say, length);
    await send("readings", await reading(network, landmarks, session.picture, image, rules, loadMs, measured));
    await new Promise((resolve) => setTimeout(resolve, 1000 * cooldown));
  } finally {
    busy = false;
    enable(true);
  }
}

async function join(address) {
  busy = true; // nothing else is opened before the session's picture, which is to be compared
  enable(false);
  try {
    session = await (await fetch(address)).json();
    $("sent").hidden = false;
    await openPicture(await (await fetch(session.file)).blob(), session.picture);
  } finally {
    busy = false;
    enable(true);
  }
  await again();
  const image = grab();
  for (const task of session.tasks) {
    try {
      await perform(task, image);
    } catch (error) {
      await send("faults", `${task.model}: ${error?.message ?? error}`);
    }
  }
  if (session.tasks.length) say("All is timed: this page may be closed.");
}

// --- the page -------------------------------------------------------------------------------------------------

function options(select, values, text = (value) => value) {
  select.replaceChildren(...values.map((value) => Object.assign(document.createElement("option"), { value, textContent: text(value) })));
}

function connect() {
  $("model").addEventListener("change", open);
  $("backend").addEventListener("change", open);
  $("threads").addEventListener("change", open);
  $("camera").addEventListener("click", () => (source?.kind === "camera" ? (stop(), say("Camera is off.")) : startCamera()));
  $("turn").addEventListener("click", () => {
    facing = facing === "environment" ? "user" : "environment";
    startCamera();
  });
  $("file").addEventListener("change", ({ target }) => target.files[0] && openFile(target.files[0]));
  for (const id of ["conf", "overlap"]) {
    $(id).addEventListener("input", () => {
      showValues();
      again();
    });
  }
  $("points").addEventListener("change", again);
  $("results").addEventListener("toggle", show);
  $("all").addEventListener("click", () => everyClass(true));
  $("none").addEventListener("click", () => everyClass(false));
  $("bench").addEventListener("click", bench);
  $("save").addEventListener("click", save);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("frame").classList.add("over");
  });
  for (const kind of ["dragleave", "drop"]) addEventListener(kind, () => $("frame").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file && !busy && network) openFile(file);
  });
}

async function begin() {
  const served = document.querySelector("meta[name=session]");
  // for offline use; a served page has an address for once
  if (!served && "serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});
  index = await (await fetch("models/page.json")).json();
  $("overlap").value = 0.45;
  options($("model"), index.models.map((entry) => entry.folder), (folder) => entryOf(folder).name);
  options($("backend"), await backends(), (name) => ({ wasm: "WASM", webgpu: "WebGPU" })[name]);
  const most = mostThreads();
  options($("threads"), Array.from({ length: Math.min(most, 8) }, (_, i) => i + 1));
  $("threads").value = Math.min(most, 4);
  connect();
  await open();
  if (served) await join(served.content);
}

begin().catch(failed);
