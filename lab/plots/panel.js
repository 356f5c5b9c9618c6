// Redraws the figure of a panel in place when its controls move. In the page of JupyterLab, this
// script stands between the controls and the figure. In any other page it does nothing, and the
// figure stays as it was saved.
(async (script) => {
  const own = script.closest('.jp-OutputArea-child');
  const extension = window._JUPYTERLAB?.['jupyterlab-plotly'];
  if (!own || !extension) return;

  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const found = async (seek) => {
    for (let tries = 0; tries < 3000; tries += 1) {
      const it = seek();
      if (it) return it;
      await pause(100);
    }
    return null; // the kernel of the controls is gone
  };
  const sent = await found(() => own.previousElementSibling?.querySelector('.lab-panel-sent'));
  const graph = await found(() => own.nextElementSibling?.querySelector('.jp-RenderedPlotly'));
  if (!sent || !graph) return;

  // A saved figure is a picture until the pointer is on it; plotly.js loads with the first graph.
  graph.querySelector('img')?.dispatchEvent(new Event('mouseenter'));
  await found(() => graph.querySelector('.plot-container') && graph.on);
  const { RenderedPlotly } = (await extension.get('./mimeExtension'))();

  // Axes that a reader has zoomed keep their ranges, even if the next figure sets other ranges.
  const zoomed = {};
  const axesOf = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  graph.on('plotly_relayout', (changes) => {
    for (const key of Object.keys(changes)) {
      const [axis, what] = key.split('.');
      if (/^range/.test(what)) {
        const { range, _rangeInitial0: low, _rangeInitial1: high } = graph._fullLayout[axis];
        zoomed[axis] = range.slice();
        if (range[0] === low && range[1] === high) delete zoomed[axis]; // "Reset axes"
      }
      if (what === 'autorange') delete zoomed[axis];
    }
  });
  const forget = () => Object.keys(zoomed).forEach((axis) => delete zoomed[axis]);
  graph.on('plotly_doubleclick', forget);

  let drawing = false;
  let drawn = '';
  const draw = async () => {
    if (drawing) return;
    drawing = true;
    try {
      // If several figures arrive in the meantime, only the last one is drawn.
      while (sent.textContent.trim() && sent.textContent !== drawn) {
        if (!graph.isConnected || !graph.offsetWidth) {
          await pause(300); // scrolled away: it has no size
        } else {
          drawn = sent.textContent;
          const { data, layout, config } = JSON.parse(drawn);
          for (const axis of Object.keys(zoomed).filter((name) => axesOf(layout).includes(name))) {
            layout[axis] = { ...layout[axis], range: zoomed[axis], autorange: false };
          }
          await RenderedPlotly.Plotly.react(graph, data, layout, config);
        }
      }
    } finally {
      drawing = false;
    }
  };
  new MutationObserver(draw).observe(sent, { childList: true, characterData: true, subtree: true });
  draw();
})(document.currentScript);
