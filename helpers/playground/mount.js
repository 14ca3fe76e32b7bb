// Mounts the playgrounds of a page: a deferred classic script, so that it works from file:// as well.
// A playground's div carries the addresses of two scripts, code and values; both load when it comes near the view or
// is touched. Its still stays in place until the first picture can be drawn.
window.bookPlaygrounds ??= (() => {
  const scripts = {}; // what the loaded scripts left here: modules `{ render }` and values, by name
  const loading = {};

  function load(base, name) {
    loading[name] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${base}/${name}.js`;
      script.onload = () => resolve(scripts[name]);
      script.onerror = () => reject(new Error(`cannot load ${script.src}`));
      document.head.append(script);
    });
    return loading[name];
  }

  // What anywidget gives a module in a notebook with a kernel: values by name, and their changes.
  function makeModel(values) {
    const state = structuredClone(values);
    const listeners = {};
    return {
      get: (name) => state[name],
      set(name, value) {
        state[name] = value;
        for (const listener of listeners[`change:${name}`] ?? []) listener();
      },
      save_changes() {},
      on: (event, listener) => (listeners[event] ??= []).push(listener),
      off: (event, listener) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener)),
    };
  }

  function mount(el, module, values) {
    if (el.dataset.mounted) return;
    el.dataset.mounted = "yes";
    const still = [...el.childNodes];
    try {
      module.render({ model: makeModel(values), el });
      for (const node of still) node.remove();
    } catch (error) {
      console.error(error); // the still remains
    }
  }

  function mountWhenSeen(el) {
    const start = () => {
      watcher.disconnect();
      const { base, code, values } = el.dataset;
      Promise.all([load(base, code), load(base, values)]).then(([module, data]) => mount(el, module, data), console.error);
    };
    const watcher = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && start(), {
      rootMargin: "200px",
    });
    watcher.observe(el);
    for (const event of ["pointerdown", "focusin"]) el.addEventListener(event, start, { once: true });
  }

  for (const el of document.querySelectorAll(".book-playground[data-code]")) mountWhenSeen(el);

  return {
    scripts,
    // In a notebook's output everything is at hand already.
    inline(id, module, values) {
      for (const el of document.querySelectorAll(`[id="${id}"]`)) mount(el, module, values);
    },
  };
})();
