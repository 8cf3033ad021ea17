// The proxy's page: a chat, and what it costs. No request leaves this machine but the proxy's own.
const at = (id) => document.getElementById(id);
const colours = ["#0b7a69", "#c9792b", "#5b6fc9", "#b3486d", "#6d8f2a", "#8a5fb5", "#3b94b8", "#9a7b4f", "#7f8a92"];
const others = "others";
const shownTokens = 40;

let model = "";
let encoder = false;
let turns = [];
let request = null;

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}

const seconds = (value) => (value < 0.1 ? `${(value * 1000).toFixed(1)} ms` : `${value.toFixed(1)} s`);

async function post(path, body) {
  request = new AbortController();
  const reply = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model, ...body }),
    signal: request.signal,
  });
  if (!reply.ok) throw new Error((await reply.json()).error.message);
  return reply;
}

function showTrouble(error) {
  const stopped = error.name === "AbortError";
  at("trouble").textContent = stopped ? "Stopped." : error.message;
  at("trouble").classList.toggle("calm", stopped);
}

function addTurn(text, className) {
  const turn = element("li", text, className);
  at("turns").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}

// The words are the user's again where nothing came of them.
function giveBack(words) {
  if (at("words").value === "") at("words").value = words;
}

// The data of whole events; what is left waits for more.
function takeEvents(text) {
  const blocks = text.split("\n\n");
  const rest = blocks.pop();
  return [blocks.filter((block) => block.startsWith("data: ")).map((block) => block.slice(6)), rest];
}

async function readAnswer(reply, show) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    let events;
    [events, rest] = takeEvents(rest + value);
    for (const event of events) {
      if (event === "[DONE]") return;
      const data = JSON.parse(event);
      if (data.error) throw new Error(data.error.message);
      show(data.choices[0]?.delta?.content ?? "");
    }
  }
}

async function ask(words) {
  turns.push({ role: "user", content: words });
  const mine = addTurn(words, "user");
  const bubble = addTurn("", "assistant busy");
  let answer = "";
  try {
    const reply = await post("/v1/chat/completions",
      { messages: turns, stream: true, max_tokens: Number(at("tokens").value) });
    await readAnswer(reply, (piece) => {
      answer += piece;
      bubble.textContent = answer;
    });
    if (answer === "") at("trouble").textContent = "The model ended the text at once.";
  } catch (error) {
    showTrouble(error);
  }
  bubble.classList.remove("busy");
  if (answer !== "") return turns.push({ role: "assistant", content: answer });
  turns.pop();
  mine.remove();
  bubble.remove();
  giveBack(words);
}

// Of vectors of length 1: the cosine of their angle.
const product = (one, other) => one.reduce((sum, value, i) => sum + value * other[i], 0);

function tableOf(texts, vectors) {
  const table = element("table", "");
  const head = table.createTHead().insertRow();
  for (const name of ["text", "cosine to the first", "vector"]) {
    const cell = element("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  texts.forEach((text, i) => {
    const row = body.insertRow();
    const begin = vectors[i].slice(0, 4).map((value) => value.toFixed(3)).join(" ");
    for (const value of [text, product(vectors[0], vectors[i]).toFixed(4), `${begin} … (${vectors[i].length})`])
      row.insertCell().textContent = value;
  });
  return table;
}

// An encoder's: a text a line.
async function embed(words) {
  const texts = words.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const bubble = addTurn("", "assistant busy");
  try {
    const { data } = await (await post("/v1/embeddings", { input: texts })).json();
    bubble.append(tableOf(texts, data.map((each) => each.embedding)));
    bubble.scrollIntoView({ block: "nearest" });
  } catch (error) {
    showTrouble(error);
    bubble.remove();
    giveBack(words);
  }
  bubble.classList.remove("busy");
}

function busy(is) {
  at("send").disabled = is;
  at("anew").disabled = is;
  at("stop").disabled = !is;
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = at("words").value.trim();
  if (words === "" || request) return;
  at("trouble").textContent = "";
  at("words").value = "";
  busy(true);
  await (encoder ? embed(words) : ask(words));
  request = null;
  busy(false);
  at("words").focus();
});

at("words").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("form").requestSubmit();
});

at("stop").addEventListener("click", () => request?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") request?.abort();
});

at("anew").addEventListener("click", () => {
  turns = [];
  at("turns").replaceChildren();
  at("trouble").textContent = "";
  at("words").focus();
});

// The largest parts have colours of their own, the same in every bar and from now on.
const coloured = [];

function partsOf(tokens) {
  const sums = new Map();
  for (const token of tokens)
    for (const [name, value] of token.parts) sums.set(name, (sums.get(name) ?? 0) + value);
  const names = [...sums.keys()].sort((one, other) => sums.get(other) - sums.get(one));
  const total = [...sums.values()].reduce((one, other) => one + other, 0);
  for (const name of names)
    if (!coloured.includes(name) && coloured.length < colours.length - 1) coloured.push(name);
  return { names: names.filter((name) => coloured.includes(name)), sums, total };
}

function drawChart(tokens) {
  const { names, sums, total } = partsOf(tokens);
  const highest = Math.max(...tokens.map((token) => token.seconds), 1e-9);
  const colourOf = (name) => colours[coloured.includes(name) ? coloured.indexOf(name) : colours.length - 1];
  at("chart").replaceChildren(...tokens.map((token) => {
    const bar = element("div", "", "bar");
    bar.title = `${seconds(token.seconds)}: ` +
      token.parts.map(([name, value]) => `${name} ${seconds(value)}`).join(", ");
    for (const [name, value] of token.parts) {
      const piece = element("div", "");
      piece.style.height = `${(100 * Math.max(value, 0)) / highest}%`;
      piece.style.background = colourOf(name);
      bar.append(piece);
    }
    return bar;
  }));
  const rest = total - names.reduce((sum, name) => sum + sums.get(name), 0);
  const rows = names.map((name) => [name, sums.get(name)]);
  if (rest > 0) rows.push([others, rest]);
  at("legend").replaceChildren(...rows.map(([name, value]) => {
    const row = element("li", "");
    const mark = element("i", "");
    mark.style.background = colourOf(name);
    row.append(mark, `${name} ${((100 * value) / Math.max(total, 1e-9)).toFixed(0)}%`);
    return row;
  }));
  const last = tokens[tokens.length - 1];
  at("chart-text").textContent = `${tokens.length} ${encoder ? "ciphertext" : "token"}${tokens.length === 1 ? "" : "s"}, the slowest ${seconds(highest)}, the last ${seconds(last.seconds)}`;
}

function drawFacts(status) {
  const facts = [
    ["server", status.server],
    ["parameters", status.parameters],
    ["evaluation keys", `${bytes(status.key_bytes)} sent in ${seconds(status.key_seconds)}`],
    ["secret key", "here, on this machine"],
    ["sent", bytes(status.bytes_up)],
    ["received", bytes(status.bytes_down)],
  ];
  at("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function drawSeen(seen) {
  if (seen.bytes === 0) return;
  at("seen-text").textContent = `The last ${encoder ? "ciphertext of texts" : "token"} left as ${bytes(seen.bytes)}, which begin so:`;
  at("seen").textContent = seen.hex.replace(/(..)/g, "$1 ").trim();
}

// The page's words for a model that embeds texts instead of writing them.
function becomeEncoder() {
  encoder = true;
  at("chat").setAttribute("aria-label", "Embeddings");
  at("turns").setAttribute("aria-label", "Results");
  at("words-label").textContent = "Texts, one a line (Shift and Enter), encrypted before they leave this machine";
  at("length").hidden = true;
  at("send").textContent = "Embed";
  at("anew").textContent = "Clear";
  at("chart-title").textContent = "Where each ciphertext's time went";
  at("chart-text").textContent = "no ciphertext yet";
  at("unseen").textContent = "No text, no token, no vector: it holds no secret key. It sees how many texts there are, " +
    "how many tokens each has, and when.";
}

async function look() {
  try {
    const status = await (await fetch("/status")).json();
    model = status.model;
    if (status.encoder && !encoder) becomeEncoder();
    at("model").textContent = `${status.model} · ${status.security}`;
    const { progress } = status;
    const waiting = progress.queued > 0 ? `waiting behind ${progress.queued} steps` : progress.operation;
    at("operation").textContent = status.running ? waiting : "nothing";
    at("done").value = status.running ? progress.done : 0;
    if (status.tokens.length > 0) drawChart(status.tokens.slice(-shownTokens));
    drawSeen(status.seen);
    drawFacts(status);
  } catch {
    at("model").textContent = "the proxy does not answer";
  }
  setTimeout(look, document.hidden ? 5000 : 500);
}

look();
