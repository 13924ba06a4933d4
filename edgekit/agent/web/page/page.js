// The live page: connection, picture, answer, states. Labels come from people's files: they are only ever set as text,
// never as HTML.
import { at, count, fixed, isNumber, make, ms, percent, renderFigures, sentence, setText, slowedBy, span, word } from "./figures.js";

const SILENCE_MS = 6000; // the server says something at least every 2 s
const STALE_MS = 3000;
const FRESH_MS = 5000; // a snapshot comes every second

const page = document.documentElement;

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

const isCameraGone = () => status !== null && ["opening", "lost", "ended", "frozen"].includes(status.camera.state);

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
  const slowed = slowedBy(status);
  if (slowed.length) found.push(["warn", "Board slowed down.", sentence(slowed.map(word).join(", "))]);
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
  setText(at("alerts"), list.map(([, title]) => title).join(" ")); // read aloud without the seconds that count down
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

let drawnStatus = null;
function render() {
  const now = performance.now();
  renderNotices(now);
  renderState();
  renderPicture();
  renderAnswer(now);
  if (status === null || status === drawnStatus) return;
  drawnStatus = status;
  renderFigures(status, answer);
}

connect();
setInterval(tick, 500);
