// Bring every explorer of a page to life without a kernel, in place of its still picture.

// What an explorer's script asks of a widget model: traits to read, to set and to listen to.
function standIn(traits) {
  const heard = {};
  return {
    get: (name) => traits[name],
    set: (name, value) => {
      const given = typeof name === "string" ? { [name]: value } : name;
      const changed = Object.keys(given).filter((key) => given[key] !== traits[key]);
      Object.assign(traits, given);
      for (const key of changed) heard[`change:${key}`]?.forEach((answer) => answer());
    },
    on: (event, answer) => (heard[event] ??= new Set()).add(answer),
    off: (event, answer) => heard[event]?.delete(answer),
    save_changes() {}, send() {},
  };
}

// A script within a page may not import a file that lies beside it (file://), but it may import a blob.
async function mount(data) {
  const { script, traits } = JSON.parse(data.textContent);
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const { default: explorer } = await import(address);
  const el = data.parentElement;
  explorer.render({ model: standIn(traits), el });
  el.closest(".cell_output").classList.add("alive");
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("script.explorer-data").forEach(mount);
});

// A page opened from a file cannot fetch the text around what was found; the titles are enough.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
