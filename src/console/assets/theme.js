// Not a module: it runs before the first paint, so that a dark page does not flash white.
(() => {
  const KEY = 'userpilot-gateway.theme';
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const apply = (choice) => {
    if (choice === 'light' || choice === 'dark') document.documentElement.dataset.theme = choice;
    else delete document.documentElement.dataset.theme;
    window.dispatchEvent(new Event('themechange'));
  };
  window.theme = {
    choice: () => stored() ?? 'system',
    choose(choice) {
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // The choice then holds for this page alone.
      }
      apply(choice);
    },
  };
  apply(stored());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => apply(stored()));
})();
