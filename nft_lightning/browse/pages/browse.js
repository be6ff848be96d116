"use strict";
// The numbers of a token for those who can not hover; without scripts they stay in its title.
document.addEventListener("click", (event) => {
  const token = event.target.closest("pre span[title]");
  const note = document.getElementById("note");
  if (!note) return;
  note.hidden = !token;
  if (token) note.textContent = JSON.stringify(token.textContent) + "  " + token.title;
});
