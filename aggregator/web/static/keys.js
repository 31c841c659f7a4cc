// Keyboard: `/` finds a cluster, `g f` and `g d` go to pages, `?` shows help.

const PAGES = { f: "/", d: "/docs" };

const find = (text) => {
  const wanted = text.trim().toLowerCase();
  for (const tile of document.querySelectorAll("[data-cluster]")) {
    tile.classList.toggle("faded", !tile.dataset.cluster.toLowerCase().includes(wanted));
  }
};

export const installKeys = () => {
  const holder = document.querySelector(".find");
  const input = document.getElementById("find");
  let going = false;
  input.addEventListener("input", () => find(input.value));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = "";
    find("");
    holder.hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (going && PAGES[event.key]) location.assign(PAGES[event.key]);
    going = event.key === "g";
    if (event.key === "/") {
      event.preventDefault();
      holder.hidden = false;
      input.focus();
    }
    if (event.key === "?") document.getElementById("help").showModal();
  });
};
