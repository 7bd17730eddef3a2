// A page with `data-live` is asked for again when the server says that its numbers have changed. Without this file every page works, too.
"use strict";
const main = document.querySelector("main[data-live]");
if (main) {
  let busy = false, again = false;
  const refresh = async () => {
    // Nothing moves under a hand or a reader's selection.
    if (busy || document.hidden || main.contains(document.activeElement) || !getSelection().isCollapsed) { again = true; return; }
    busy = true; again = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok && !answer.redirected) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        main.replaceChildren(...page.querySelector("main").childNodes);
        document.querySelector("footer").replaceWith(page.querySelector("footer"));
      }
    } finally { busy = false; }
  };
  new EventSource("/live").onmessage = refresh;
  setInterval(() => { if (again) refresh(); }, 5000);
}
