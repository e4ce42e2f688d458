window.addEventListener("load", function () {
  Redoc.init("openapi.json", { nativeScrollbars: true }, document.getElementById("docs"));
});
