// Light, dark, or what the system prefers.

/** The colours of the figures, as the style sheet has them. */
export function figureColors() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ground: color("ground"),
    ink: color("ink"),
    quiet: color("quiet"),
    line: color("line"),
    series: [1, 2, 3, 4, 5, 6].map((number) => color(`series-${number}`)),
  };
}

/** Connect the switch; `onChange` is called whenever the colours are others. */
export function connectTheme(button, onChange) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  const show = () => {
    button.setAttribute("aria-label", `Use ${current() === "dark" ? "light" : "dark"} colours`);
    onChange();
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = current() === "dark" ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  show();
}
