// onnxruntime-web, and a network in it.

import { cut, pointsOf, postprocess, preprocess, readSpec, windowOf } from "./detector.js";

// The engine's files are read when a backend is first chosen: WebGPU's are twice as large. The number of threads
// is fixed when the engine starts, so each number has an engine of its own.
const BUNDLES = { wasm: "./ort/ort.wasm.min.mjs", webgpu: "./ort/ort.webgpu.min.mjs" };
const loaded = {};

async function engine(backend, threads) {
  const address = `${BUNDLES[backend]}?threads=${threads}`;
  if (!loaded[address]) {
    loaded[address] = import(address).then((ort) => {
      ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
      ort.env.wasm.numThreads = threads;
      ort.env.logLevel = "error";
      return ort;
    });
  }
  return loaded[address];
}

// Threads that the browser gives: more than one only to pages that are isolated from others.
export function mostThreads() {
  return globalThis.crossOriginIsolated ? Math.max(1, navigator.hardwareConcurrency ?? 1) : 1;
}

export async function backends() {
  const gpu = await navigator.gpu?.requestAdapter?.().catch(() => null);
  return gpu ? ["wasm", "webgpu"] : ["wasm"];
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} is missing (${response.status}): package the page again`);
  return response;
}

export class Network {
  // `folder`: with spec.json and the file; `entry`: of models/page.json.
  static async open(entry, backend, threads) {
    const folder = `models/${entry.folder}/`;
    const spec = readSpec(await (await fetched(`${folder}spec.json`)).json());
    const bytes = new Uint8Array(await (await fetched(folder + entry.file)).arrayBuffer());
    const ort = await engine(backend, threads);
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [backend], graphOptimizationLevel: "all" });
    return new Network(ort, session, spec, entry, { backend, threads, version: ort.env.versions?.web ?? ort.env.versions?.common ?? "" });
  }

  constructor(ort, session, spec, entry, facts) {
    Object.assign(this, { ort, session, spec, entry, facts });
    this.names = [...session.outputNames].sort((a, b) => a.length - b.length || (a < b ? -1 : 1)); // map0, map1, ...
  }

  // Raw outputs [{data, dims}] for an input.
  async run(values) {
    const { channels, width, height } = this.spec.input;
    const tensor = new this.ort.Tensor("float32", values, [1, channels, height, width]);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: tensor });
    return this.names.map((name) => outputs[name]);
  }

  // Detections of a picture (ImageData), and milliseconds of the stages.
  async detect(image, { conf, overlap }) {
    const begin = performance.now();
    this.memory = preprocess(image, this.spec.input, this.memory);
    const ready = performance.now();
    const maps = await this.run(this.memory);
    const ran = performance.now();
    const found = postprocess(maps, this.spec, image.width, image.height, conf, overlap);
    const end = performance.now();
    return { found, ms: { preprocess: ready - begin, inference: ran - ready, postprocess: end - ran } };
  }

  // Points [x, y] px of each face among the detections, and milliseconds of all together.
  async place(image, faces) {
    const begin = performance.now();
    const points = [];
    for (const face of faces) {
      const window = windowOf(face, this.spec, image.width, image.height);
      const [relative] = await this.run(cut(image, window, this.spec.input));
      points.push(pointsOf(relative.data, window));
    }
    return { points, ms: performance.now() - begin };
  }

  async close() {
    await this.session.release();
  }
}
