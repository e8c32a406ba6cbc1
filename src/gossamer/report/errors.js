"use strict";
function showError(text) {
  const box = document.createElement("div");
  box.className = "error-box";
  box.setAttribute("role", "alert");
  box.textContent = "This page met an error: " + text;
  (document.querySelector("main") || document.documentElement).prepend(box);
}
window.addEventListener("error", (event) => showError(event.message));
window.addEventListener("unhandledrejection", (event) => showError(String(event.reason)));
