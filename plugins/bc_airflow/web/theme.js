// Follows Airflow's switch of the theme: a class of the surrounding page or, in a window of its own,
// what the browser stored for Airflow. Without either, the style sheet follows the system.
(() => {
  const outer = () => (window.parent === window ? null : window.parent.document.documentElement);
  const stored = () => localStorage.getItem("theme");
  const chosen = () => {
    const classes = outer()?.classList;
    const theme = ["dark", "light"].find((name) => classes?.contains(name)) ?? stored();
    return theme === "dark" || theme === "light" ? theme : "";
  };
  const follow = () => { document.documentElement.style.colorScheme = chosen(); };
  try {
    follow();
    window.addEventListener("storage", follow);
    if (outer()) new MutationObserver(follow).observe(outer(), { attributeFilter: ["class"] });
  } catch {
    // Another origin's page, or a file: nothing to follow.
  }
})();
