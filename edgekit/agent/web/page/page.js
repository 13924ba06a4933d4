"use strict";
// The live page. Names and labels come from people's files: they are only ever set as text, never as HTML.

const SILENCE_MS = 6000; // the server says something at least every 2 s
const STALE_MS = 3000;
const FRESH_MS = 5000; // a snapshot comes every second
const STAGE_NAMES = { capture_age: "capture age", preprocess: "preprocess", inference: "inference", post: "post", end_to_end: "end to end" };

const page = document.documentElement;
const at = id => document.getElementById(id);
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

let source = null;
let lastHeard = performance.now();
let status = null;
let statusAt = 0;
let answer = null;
let answerAt = 0; // when it was answered, on this page's clock
let answerTimes = [];
let spokenAt = -Infinity;
let spokenLabel = "";
let pictureNumber = 0;
let pictureTimer = 0;
let hasPicture = false;
let changedAt = 0; // when the picture last changed, or was asked for
let patienceMs = 5000;
let reopenTimer = 0;

// ---------------------------------------------------------------------------------------------------------- numbers
const isNumber = value => typeof value === "number" && Number.isFinite(value);
const fixed = (value, digits) => isNumber(value) ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : "-";
const count = value => fixed(value, 0);
const ms = value => fixed(value, !isNumber(value) || value >= 100 ? 0 : value >= 10 ? 1 : 2);
const percent = share => isNumber(share) ? `${fixed(100 * share, share > 0 && share < 0.1 ? 1 : 0)} %` : "-";
const size = bytes => !isNumber(bytes) ? "-" : bytes < 1e6 ? `${fixed(bytes / 1e3, bytes > 0 && bytes < 1e4 ? 1 : 0)} KB` : `${fixed(bytes / 1e6, 2)} MB`;
const sentence = text => text ? `${text[0].toUpperCase()}${text.slice(1).replace(/\.$/, "")}. ` : "";
function span(seconds) {
  if (!isNumber(seconds)) return "-";
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`;
}

// -------------------------------------------------------------------------------------------------------- connection
function connect() {
  clearTimeout(reopenTimer);
  source?.close();
  source = new EventSource("/predictions");
  lastHeard = performance.now();
  const hear = act => event => {
    lastHeard = performance.now();
    setConnection("open");
    act?.(JSON.parse(event.data));
  };
  source.addEventListener("status", hear(takeStatus));
  source.addEventListener("answer", hear(takeAnswer));
  source.addEventListener("heartbeat", hear(null));
  source.onerror = () => {
    setConnection("lost");
    // The browser tries again by itself, except after a refusal (no room, token changed).
    if (source.readyState === EventSource.CLOSED) reopenTimer = setTimeout(connect, 3000);
  };
}

function setConnection(word) {
  if (page.dataset.connection === word) return;
  const wasLost = page.dataset.connection === "lost";
  page.dataset.connection = word;
  if (word === "open" && (wasLost || !at("picture").hasAttribute("src"))) showPicture();
  render();
}

function watchSilence() {
  if (document.hidden || performance.now() - lastHeard < SILENCE_MS) return;
  setConnection("lost");
  if (source.readyState !== EventSource.CLOSED) connect();
}

// A page that nobody sees costs the board nothing, and leaves room for others.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    clearTimeout(reopenTimer);
    hidePicture();
    page.dataset.connection = "connecting";
  } else {
    connect();
  }
});

// ----------------------------------------------------------------------------------------------------------- picture
function showPicture() {
  clearTimeout(pictureTimer);
  changedAt = performance.now();
  at("picture").src = `/stream.mjpg?${++pictureNumber}`; // another address: a stream that has ended is not asked for again
}

function hidePicture() {
  clearTimeout(pictureTimer);
  hasPicture = false;
  at("picture").removeAttribute("src");
}

at("picture").addEventListener("error", () => {
  if (!at("picture").hasAttribute("src")) return;
  hidePicture();
  render();
  pictureTimer = setTimeout(() => { if (!document.hidden && page.dataset.connection === "open") showPicture(); }, 2000);
});

// Browsers do not tell when a stream of pictures breaks off in its middle. Answers without pictures do; so does a camera
// that looks at nothing but one still picture, which is why asking again becomes rarer.
function watchPicture(now) {
  const isMoving = now - answerAt < STALE_MS && ["streaming", "degraded"].includes(status?.camera.state);
  if (document.hidden || page.dataset.connection !== "open" || !isMoving || now - changedAt < patienceMs) return;
  patienceMs = Math.min(60000, 2 * patienceMs);
  showPicture();
}

// Pictures per second that are really shown: a small copy is compared with the one before.
const probe = Object.assign(document.createElement("canvas"), { width: 32, height: 24 }).getContext("2d", { willReadFrequently: true });
let lastProbe = null;
let shownTimes = [];
let probedAt = 0;
function countShown(now) {
  requestAnimationFrame(countShown);
  if (now - probedAt < 25 || !at("picture").naturalWidth) return;
  probedAt = now;
  probe.drawImage(at("picture"), 0, 0, 32, 24);
  const pixels = new Uint32Array(probe.getImageData(0, 0, 32, 24).data.buffer);
  if (lastProbe === null || pixels.some((pixel, i) => pixel !== lastProbe[i])) {
    shownTimes.push(now);
    lastProbe = pixels;
    changedAt = now;
    patienceMs = 5000;
    if (!hasPicture) { hasPicture = true; render(); }
  }
}
requestAnimationFrame(countShown);

function rate(times, now, windowMs = 3000) {
  while (times.length && times[0] < now - windowMs) times.shift();
  return times.length < 2 ? 0 : 1000 * times.length / windowMs;
}

function tick() {
  const now = performance.now();
  watchSilence();
  watchPicture(now);
  const shown = rate(shownTimes, now);
  page.dataset.fps = shown.toFixed(2);
  page.dataset.answersFps = rate(answerTimes, now).toFixed(2);
  setText(at("fps"), shown.toFixed(1));
  at("picture").classList.toggle("coarse", at("picture").naturalWidth > 0 && at("picture").naturalWidth <= 128);
  render();
}

// ------------------------------------------------------------------------------------------------------------- state
function takeStatus(next) {
  status = next;
  statusAt = performance.now();
  render();
}

function takeAnswer(next) {
  const now = performance.now();
  answer = next;
  answerAt = now - next.since_ms;
  answerTimes.push(now);
  renderAnswer(now);
}

const WORDS = { under_voltage: "under-voltage", frequency_capped: "frequency capped", throttled: "throttled", soft_temperature_limit: "temperature limit" };
const word = name => WORDS[name] ?? name;
const isCameraGone = () => status !== null && ["opening", "lost", "ended", "frozen"].includes(status.camera.state);

function slowedBy() {
  const throttle = status?.system.throttle;
  return throttle ? Object.keys(WORDS).filter(name => throttle[name]) : [];
}

function cameraNotice(camera) {
  const more = sentence(camera.detail);
  const again = isNumber(camera.retry_in_s) ? `Trying again in ${fixed(camera.retry_in_s, 1)} s.` : "";
  switch (camera.state) {
    case "opening": return ["wait", "Camera opening.", `${more}${again}`];
    case "degraded": return ["warn", "Camera slow.", `${more}${fixed(camera.fps_in, 1)} of ${fixed(camera.declared_fps, 0)} frames per second.`];
    case "frozen": return ["alarm", "Picture frozen.", `${more}The camera repeats the same picture.`];
    case "lost": return ["alarm", "Camera lost.", `${more}${again}`];
    case "ended": return ["wait", "Recording over.", more];
    default: return null;
  }
}

function notices(now) {
  const found = [];
  if (page.dataset.connection === "lost") {
    const age = status === null ? "" : ` What you see is ${span((now - Math.max(statusAt, answerAt)) / 1000)} old.`;
    return [["alarm", "Connection lost.", `Trying again.${age}`]];
  }
  if (status === null) return found;
  if (now - statusAt > FRESH_MS) found.push(["alarm", "Figures are old.", `The agent has written none for ${span((now - statusAt) / 1000)}.`]);
  const detail = sentence(status.detail);
  if (status.state === "wedged") found.push(["alarm", "Wedged.", detail || "A part of the agent does not move."]);
  if (status.state === "starting") found.push(["wait", "Starting.", detail || "The model is being loaded and checked."]);
  if (status.state === "stopping") found.push(["wait", "Stopping.", detail]);
  const camera = cameraNotice(status.camera);
  if (camera) found.push(camera);
  const slowed = slowedBy();
  if (slowed.length) found.push(["warn", "Board slowed down.", `${slowed.map(word).join(", ")}.`]);
  if (status.drift?.flags.length) found.push(["warn", "Drift.", `Not as in training: ${status.drift.flags.map(word).join(", ")}.`]);
  if (status.mqtt.state === "offline") found.push(["warn", "MQTT offline.", `${sentence(status.mqtt.detail)}${count(status.mqtt.num_pending)} records wait.`]);
  return found;
}

// ------------------------------------------------------------------------------------------------------------ drawing
let drawnNotices = "";
function renderNotices(now) {
  const list = notices(now);
  const text = JSON.stringify(list);
  if (text === drawnNotices) return;
  drawnNotices = text;
  at("notices").replaceChildren(...list.map(([level, title, more]) => {
    const item = make("li");
    item.dataset.level = level;
    item.append(make("strong", title), ` ${more}`);
    return item;
  }));
}

function renderState() {
  const isLost = page.dataset.connection === "lost";
  const shown = isLost ? "connection lost" : status === null ? "connecting" : status.state;
  const level = isLost || shown === "wedged" ? "alarm" : shown === "serving" ? (status.camera.state === "streaming" ? "good" : "warn") : shown === "waiting" ? "warn" : "wait";
  setText(at("state"), shown);
  at("state").dataset.level = level;
  page.dataset.state = shown;
  page.dataset.camera = status?.camera.state ?? "";
}

function veilOf() {
  if (page.dataset.connection === "lost") return ["alarm", "Connection lost"];
  if (status === null) return ["wait", "Connecting"];
  const words = { opening: ["wait", "Camera opening"], lost: ["alarm", "Camera lost"], frozen: ["alarm", "Picture frozen"], ended: ["wait", "Recording over"] };
  if (status.state === "wedged") return ["alarm", "Wedged"];
  if (words[status.camera.state]) return words[status.camera.state];
  return hasPicture ? null : ["wait", status.state === "starting" ? "Starting" : "Waiting for a picture"];
}

function renderPicture() {
  const veil = veilOf();
  at("figure").classList.toggle("veiled", veil !== null);
  if (veil) {
    at("figure").dataset.level = veil[0];
    setText(at("veil"), veil[1]);
  }
  const camera = status?.camera;
  if (camera && camera.width > 0) {
    at("figure").style.setProperty("--aspect", `${camera.width} / ${camera.height}`);
    setText(at("geometry"), `${camera.width} × ${camera.height}`);
  }
}

function renderAnswer(now) {
  at("answer").classList.toggle("none", answer === null);
  if (answer === null) return;
  const ageMs = now - answerAt;
  const isStale = ageMs > STALE_MS || isCameraGone() || page.dataset.connection === "lost";
  at("answer").classList.toggle("stale", isStale);
  at("answer").classList.toggle("unknown", answer.label === "unknown");
  setText(at("label"), answer.label);
  const when = isStale ? `answered ${span(ageMs / 1000)} ago` : `picture ${ms(answer.age_ms)} ms old when answered`;
  setText(at("confidence"), `${percent(answer.confidence)} sure, ${when}`);
  speak(isStale, now);
  const bars = at("bars");
  while (bars.children.length > answer.top.length) bars.lastChild.remove();
  answer.top.forEach(([name, share], i) => {
    let row = bars.children[i];
    if (!row) {
      row = make("li");
      const bar = make("div", "", "bar");
      bar.setAttribute("aria-hidden", "true");
      bar.append(make("span"));
      row.append(make("span", "", "name"), make("span", "", "share"), bar);
      bars.append(row);
    }
    setText(row.children[0], name);
    row.children[0].title = name;
    setText(row.children[1], percent(share));
    row.children[2].firstChild.style.width = `${Math.min(100, Math.max(0, 100 * (share ?? 0)))}%`;
  });
}

// Read aloud when the label changes, at most every other second, without the trembling percentages.
function speak(isStale, now) {
  if (isStale || answer.label === spokenLabel || now - spokenAt < 2000) return;
  spokenLabel = answer.label;
  spokenAt = now;
  at("spoken").textContent = answer.label;
}

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

const nowOf = stage => {
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

function renderGlance() {
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

function renderCamera(camera) {
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

function renderSystem(system) {
  const slowed = slowedBy();
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

let drawnStatus = null;
function render() {
  const now = performance.now();
  renderNotices(now);
  renderState();
  renderPicture();
  renderAnswer(now);
  if (status === null || status === drawnStatus) return;
  drawnStatus = status;
  setText(at("device"), status.device_id);
  setText(at("board"), `${status.system.board}, up ${span(status.uptime_s)}`);
  document.title = `${status.device_id} - edgekit`;
  const recent = status.recent;
  renderLatency("recent", recent ? `Last ${fixed(recent.seconds, 0)} s${recent.was_slowed ? ", board slowed down" : ""}` : "Last window: none complete yet", recent?.stages ?? status.total.map(stage => ({ stage: stage.stage, n: 0 })), nowOf);
  renderLatency("total", "Since the start", status.total, stage => stage.n ? stage.max_ms : null);
  renderGlance();
  renderModel(status.model);
  renderCamera(status.camera);
  renderSystem(status.system);
  renderDrift(status.drift);
  renderMqtt(status.mqtt);
}

connect();
setInterval(tick, 500);
