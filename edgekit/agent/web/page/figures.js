// The figures of a snapshot. Names come from people's files: they are only ever set as text, never as HTML.

const STAGE_NAMES = { capture_age: "capture age", preprocess: "preprocess", inference: "inference", post: "post", end_to_end: "end to end" };

export const at = id => document.getElementById(id);
export const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
export const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// ---------------------------------------------------------------------------------------------------------- numbers
export const isNumber = value => typeof value === "number" && Number.isFinite(value);
export const fixed = (value, digits) => isNumber(value) ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : "-";
export const count = value => fixed(value, 0);
export const ms = value => fixed(value, !isNumber(value) || value >= 100 ? 0 : value >= 10 ? 1 : 2);
export const percent = share => isNumber(share) ? `${fixed(100 * share, share > 0 && share < 0.1 ? 1 : 0)} %` : "-";
const size = bytes => !isNumber(bytes) ? "-" : bytes < 1e6 ? `${fixed(bytes / 1e3, bytes > 0 && bytes < 1e4 ? 1 : 0)} KB` : `${fixed(bytes / 1e6, 2)} MB`;
export const sentence = text => text ? `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}. ` : "";
export function span(seconds) {
  if (!isNumber(seconds)) return "-";
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`;
}

const WORDS = { under_voltage: "under-voltage", frequency_capped: "frequency capped", throttled: "throttled", soft_temperature_limit: "temperature limit" };
export const word = name => WORDS[name] ?? name;

export function slowedBy(status) {
  const throttle = status?.system.throttle;
  return throttle ? Object.keys(WORDS).filter(name => throttle[name]) : [];
}

// ------------------------------------------------------------------------------------------------------------ drawing
function renderLatency(id, caption, stages, first) {
  const table = at(id);
  setText(table.caption, caption);
  const rows = (stages ?? []).map(stage => {
    const row = make("tr");
    const head = make("th", STAGE_NAMES[stage.stage] ?? stage.stage);
    head.scope = "row";
    row.append(head, make("td", ms(first(stage))), ...["p50_ms", "p90_ms", "p99_ms"].map(key => make("td", ms(stage[key]))), make("td", count(stage.n)));
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
}

const nowOf = (stage, answer) => {
  if (answer === null) return null;
  return stage.stage === "end_to_end" ? answer.age_ms : answer[`${stage.stage}_ms`];
};

function renderList(id, pairs) {
  at(id).replaceChildren(...pairs.filter(Boolean).map(([name, text, level]) => {
    const row = make("div");
    const value = make("dd", text);
    if (level) value.dataset.level = level;
    row.append(make("dt", name), value);
    return row;
  }));
}

function renderGlance(status) {
  const whole = status.total.find(stage => stage.stage === "end_to_end");
  const { model, system } = status;
  const smallest = model === null ? null : model.packed_bytes ?? model.file_bytes;
  const pairs = [
    ["Capture to answer", isNumber(whole?.p50_ms) ? `${ms(whole.p50_ms)} ms` : "-", `p50; p99 ${ms(whole?.p99_ms)}, n = ${count(whole?.n)}`],
    ["Model size", size(smallest), model === null ? "loading" : model.packed_bytes === null ? "not packed" : `packed; file ${size(model.file_bytes)}`],
    ["Answers", `${fixed(status.fps_out, 1)} fps`, `camera ${fixed(status.camera.fps_in, 1)} fps`],
    ["Board", isNumber(system.temperature_c) ? `${fixed(system.temperature_c, 0)} °C` : `${fixed(system.cpu_percent, 0)} %`, `${fixed(system.cpu_percent, 0)} % of a core, ${fixed(system.rss_mib, 0)} MiB`],
  ];
  at("glance").replaceChildren(...pairs.map(([name, text, more]) => {
    const item = make("div");
    const value = make("dd", text);
    value.append(make("small", more));
    item.append(make("dt", name), value);
    return item;
  }));
}

function renderModel(model) {
  if (model === null) return renderList("model", [["state", "loading"]]);
  renderList("model", [
    ["name", model.name],
    ["scheme", model.scheme],
    model.release !== null && ["release", String(model.release)],
    ["packed", size(model.packed_bytes)],
    ["file", size(model.file_bytes)],
    ["in memory", `${fixed(model.resident_mib, 1)} MiB`],
    ["loaded in", `${ms(model.load_ms)} ms`],
    ["first inference", `${ms(model.first_inference_ms)} ms`],
    ["golden pictures right", count(model.num_golden)],
    ["runtime", `${model.runtime}, ${count(model.num_threads)} thread${model.num_threads === 1 ? "" : "s"}`],
    ["classes", count(model.num_classes)],
    ["SHA-256", model.sha256.slice(0, 12)],
  ]);
}

const TIME_SOURCES = { driver: "by the driver", arrival: "at arrival here", painted: "painted in" };

function renderCamera(status) {
  const camera = status.camera;
  const levels = { streaming: "good", degraded: "warn", frozen: "alarm", lost: "alarm" };
  renderList("camera", [
    ["state", camera.state, levels[camera.state] ?? "wait"],
    ["kind", camera.kind],
    camera.source && ["source", camera.source],
    ["frames in", `${fixed(camera.fps_in, 1)} fps`],
    ["declared", isNumber(camera.declared_fps) ? `${fixed(camera.declared_fps, 1)} fps` : "-"],
    ["answered", `${fixed(status.fps_out, 1)} fps`],
    ["grabbed", count(camera.num_grabbed)],
    ["dropped", count(camera.num_dropped)],
    ["times lost", count(camera.num_lost)],
    ["capture time", TIME_SOURCES[camera.time_source] ?? camera.time_source],
  ]);
}

function renderSystem(status) {
  const system = status.system;
  const slowed = slowedBy(status);
  renderList("system", [
    ["board", system.board],
    ["CPU", `${fixed(system.cpu_percent, 1)} % of a core`],
    ["memory", `${fixed(system.rss_mib, 1)} MiB`],
    ["temperature", isNumber(system.temperature_c) ? `${fixed(system.temperature_c, 1)} °C` : "-"],
    ["slowed by", system.throttle === null ? "not told" : slowed.map(word).join(", ") || "nothing", slowed.length ? "warn" : ""],
    system.throttle?.has_occurred.length > 0 && ["since boot", system.throttle.has_occurred.map(word).join(", ")],
    ...system.power_rails.map(rail => [rail.name, `${fixed(rail.watts, 2)} W, ${fixed(rail.volts, 2)} V`]),
    ["up", span(status.uptime_s)],
  ]);
}

function renderDrift(drift) {
  at("drift-card").hidden = drift === null;
  if (drift === null) return;
  renderList("drift", [
    ["drifted", drift.flags.map(word).join(", ") || "nothing", drift.flags.length ? "warn" : ""],
    ["PSI of the classes", fixed(drift.psi, 3)],
    ["mean confidence", percent(drift.mean_confidence)],
    ["brightness", `${fixed(drift.brightness, 0)} of 255`],
    ["sharpness", fixed(drift.sharpness, 0)],
    ["answers", count(drift.n)],
    ["pictures to label", `${count(drift.num_samples)}, ${size(drift.samples_bytes)}`],
  ]);
}

function renderMqtt(mqtt) {
  at("mqtt-card").hidden = mqtt.state === "off";
  renderList("mqtt", [
    ["state", mqtt.state, { connected: "good", offline: "warn" }[mqtt.state] ?? "wait"],
    ["waiting", `${count(mqtt.num_pending)}, ${size(mqtt.pending_bytes)}`],
    ["delivered", count(mqtt.num_delivered)],
    ["dropped", count(mqtt.num_dropped), mqtt.num_dropped ? "warn" : ""],
  ]);
}

// Everything that changes once a second.
export function renderFigures(status, answer) {
  setText(at("device"), status.device_id);
  setText(at("board"), `${status.system.board}, up ${span(status.uptime_s)}`);
  document.title = `${status.device_id} - edgekit`;
  const recent = status.recent;
  renderLatency("recent", recent ? `Last ${fixed(recent.seconds, 0)} s${recent.was_slowed ? ", board slowed down" : ""}` : "Last window: none complete yet", recent?.stages ?? status.total.map(stage => ({ stage: stage.stage, n: 0 })), stage => nowOf(stage, answer));
  renderLatency("total", "Since the start", status.total, stage => stage.n ? stage.max_ms : null);
  renderGlance(status);
  renderModel(status.model);
  renderCamera(status);
  renderSystem(status);
  renderDrift(status.drift);
  renderMqtt(status.mqtt);
}
