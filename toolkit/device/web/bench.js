// Times the stages of a network on one picture, and puts the figures into a reading as toolkit time keeps them.

export const USUAL = { warmup: { seconds: 1 }, timed: { seconds: 4, loops: 30 } };
const STAGES = ["preprocess", "inference", "postprocess"];

// Whether `count` loops in `ms` are as long as wanted: all of the seconds and of the loops.
function done(count, ms, { seconds = 0, loops = 0 }) {
  return count >= loops && ms >= 1000 * seconds;
}

// `tell`: (text) -> shows how far it is. `length`: {warmup, timed}, each {seconds, loops}.
export async function measure(network, landmarks, image, settings, tell, length = USUAL) {
  const names = landmarks ? [...STAGES, "landmarks"] : STAGES;
  const samples = Object.fromEntries(["start", ...names].map((name) => [name, []]));
  let last;
  const loop = async () => {
    last = await network.detect(image, settings);
    if (landmarks) {
      const placed = await landmarks.place(image, last.found);
      last.points = placed.points;
      last.ms.landmarks = placed.ms;
    }
    return last.ms;
  };
  tell("Warming up.");
  const start = performance.now();
  for (let count = 0; !done(count, performance.now() - start, length.warmup); count += 1) await loop();
  tell("Timing.");
  const begin = performance.now();
  while (!samples.start.length || !done(samples.start.length, performance.now() - begin, length.timed)) {
    samples.start.push(performance.now() - begin);
    const ms = await loop();
    for (const name of names) samples[name].push(ms[name]);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays alive
  }
  return { names, samples, last };
}

// The value that a share of the samples does not exceed.
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// Medians and 90th percentiles of each stage and of all together.
export function table({ names, samples }) {
  const whole = samples.start.map((_, i) => names.reduce((sum, name) => sum + samples[name][i], 0));
  return [...names.map((name) => [name, samples[name]]), ["all", whole]].map(([name, values]) => ({
    name,
    median: quantile(values, 0.5),
    p90: quantile(values, 0.9),
  }));
}

async function power() {
  const battery = await navigator.getBattery?.().catch(() => null);
  return battery ? { battery_level: battery.level, charging: battery.charging } : {};
}

function model(network) {
  const { name, format, sha256 } = network.entry;
  return { name, format, sha256 };
}

export async function reading(network, landmarks, picture, image, { conf, overlap }, loadMs, measured) {
  const { backend, threads, version } = network.facts;
  const { samples, last } = measured;
  const round = (values) => values.map((value) => Math.round(value * 1000) / 1000);
  return {
    schema: 1,
    kind: "bench",
    model: model(network),
    ...(landmarks ? { landmarks: model(landmarks) } : {}),
    input: { picture, width: image.width, height: image.height },
    settings: { threads, powersave: 0, precision: "fp32", conf, iou: overlap, run_as: "browser", backend },
    runtime: { engine: "onnxruntime-web", version, isolated: Boolean(globalThis.crossOriginIsolated) },
    cpu: { cores: navigator.hardwareConcurrency ?? 0 },
    device: { kind: "browser", user_agent: navigator.userAgent, ...(await power()) },
    date: new Date().toISOString(),
    load_ms: loadMs,
    samples: Object.fromEntries(Object.entries(samples).map(([name, values]) => [`${name}_ms`, round(values)])),
    detections: last.found.map((d, i) => ({
      class: network.spec.classes[d.label],
      score: d.score,
      box: [d.x1 * image.width, d.y1 * image.height, d.x2 * image.width, d.y2 * image.height],
      ...(last.points ? { landmarks: last.points[i] } : {}),
    })),
  };
}
