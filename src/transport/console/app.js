/** Starts the console: texts, shell, the one live connection, and the page that the address names. */

import { load } from "./i18n.js";
import { start } from "./live.js";
import { mount } from "./shell.js";

/** What index.html holds is seen before the page is made; a tab in the background paints nothing, and does not wait. */
const painted = new Promise((resolve) => {
  requestAnimationFrame(() => setTimeout(resolve));
  setTimeout(resolve, 200);
});

void start();
await Promise.all([load(), painted]);
mount(document.body);
