// Where it begins.
import { begin_page } from "./main.js";

begin_page();
