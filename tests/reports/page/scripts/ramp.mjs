// A grey colour map as pages carry it: bytes of sRGB in base64.

/** `n` greys from `first` on. */
export const ramp = (n, first = 0) =>
  btoa(String.fromCharCode(...Array.from({ length: 3 * n }, (_, i) => (first + Math.floor(i / 3)) % 256)));
