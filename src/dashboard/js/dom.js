// Elements made of text. Nothing here, or anywhere else on this page, makes markup from a string: what a database holds stays text.

// An element with properties, attributes and children; a child that is null, undefined or false is left out.
// `on` holds listeners, `class` the class, `data` the data attributes.
export function h(name, properties, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") element.className = value;
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false).map(node_of));
  return element;
}

function node_of(child) {
  return child instanceof Node ? child : String(child);
}

export function by_id(id) {
  return document.getElementById(id);
}

// Sets an element's text, if it changes: a screen reader hears of every change.
export function set_text(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Replaces what is in a container, and keeps what a person did there: what is open stays open, what is closed stays closed, what has
// the focus keeps it.
// Elements are known again by `data-key`.
export function replace(container, nodes) {
  const open = new Map([...container.querySelectorAll("details[data-key]")].map((each) => [each.dataset.key, each.open]));
  const focused = container.contains(document.activeElement) ? document.activeElement.closest("[data-key]")?.dataset.key : null;
  const is_summary = document.activeElement?.localName === "summary";
  const scrolled = new Map([...container.querySelectorAll("[data-key]")].filter((each) => each.scrollLeft > 0).map((each) => [each.dataset.key, each.scrollLeft]));
  container.replaceChildren(...nodes.flat(Infinity).filter(Boolean).map(node_of));
  for (const each of container.querySelectorAll("[data-key]")) {
    if (each.localName === "details" && open.has(each.dataset.key)) each.open = open.get(each.dataset.key);
    if (scrolled.has(each.dataset.key)) each.scrollLeft = scrolled.get(each.dataset.key);
    if (focused && each.dataset.key === focused) (is_summary ? each.querySelector("summary") : each)?.focus({ preventScroll: true });
  }
}

// Whether somebody is just selecting text in it, to copy it.
export function is_being_read(container) {
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && container.contains(selection.anchorNode));
}
