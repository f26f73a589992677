// Where the page's numbers and pictures come from: a vaekit server, or files beside the page and ONNX models in the browser.

class Server {
  async scene() { return (await asked("data/scene.json")).json(); }
  async floats(name) { return new Float32Array(await (await asked(`data/${name}`)).arrayBuffer()); }
  async shorts(name) { return new Int16Array(await (await asked(`data/${name}`)).arrayBuffer()); }
  sheet(name) { return `data/${name}`; }

  // rows: Float32Array of (code, weights) for each image; answers with levels, Uint8Array, image by image
  async decode(rows) {
    const answer = await asked("api/decode", { method: "POST", body: rows });
    return new Uint8Array(await answer.arrayBuffer());
  }

  async encode(file, label) {
    const found = await (await asked(label === null ? "api/encode" : `api/encode?label=${label}`, { method: "POST", body: file })).json();
    return { ...found, input: levels(found.input), output: levels(found.output) };
  }

  // latents of a model that draws them itself; the same seed gives the same noise at any temperatures
  async sample(seed, temperatures, told) {
    const answer = await asked(`api/sample?seed=${seed}&temperatures=${temperatures.join(",")}`, { method: "POST", body: told });
    return new Float32Array(await answer.arrayBuffer());
  }

  async training() { return (await asked("api/training")).json(); }
}

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the explorer does not answer; is vaekit explore still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.problem || `the explorer answered ${answer.status}`);
  }
  return answer;
}

function levels(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

export async function connect() {
  if (document.documentElement.dataset.source !== "files") return new Server();
  const { Files } = await import("./files.js");
  return Files.open();
}
