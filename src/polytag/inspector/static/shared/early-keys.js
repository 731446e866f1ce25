// Holds the keys that are pressed before the scripts of the page run; keys.js takes them.
window.earlyKeys = [];
addEventListener("keydown", window.earlyKeys.hold = (event) => window.earlyKeys.push(event));
