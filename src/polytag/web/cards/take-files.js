// Files that a person chooses by the button #choose with the input #files, drops anywhere on the page, or pastes.

/** Call `add` with the files, an array, that are chosen, dropped or pasted. */
export function takeFiles(add) {
  const [choose, files] = ["choose", "files"].map((id) => document.getElementById(id));
  choose.disabled = false;
  choose.addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    add([...files.files]);
    files.value = ""; // the same file may be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    add(files);
  });
  takeDropped(add);
}

function takeDropped(add) {
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0; // of elements that the drag has entered
  const endDrag = () => {
    depth = 0;
    document.body.classList.remove("dropping");
  };
  document.addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth++;
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("dragleave", (event) => {
    if (holdsFiles(event) && --depth <= 0) endDrag();
  });
  document.addEventListener("drop", (event) => {
    endDrag();
    if (!holdsFiles(event)) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
}
