/**
 * Starts the console: texts, shell, the one live connection, and the page that the address names.
 */

import { load } from "./i18n.js";
import { start } from "./live.js";
import { mount } from "./shell.js";

void start();
await load();
mount(document.body);
