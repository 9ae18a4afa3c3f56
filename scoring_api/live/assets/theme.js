// Before anything is drawn, so that a chosen theme does not flash.
"use strict";
{
  const chosen = localStorage.getItem("fraudstream-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
