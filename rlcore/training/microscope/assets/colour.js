// A diverging scale, orange to blue, told apart by every common kind of colour vision; zero is the neutral grey.
// Mixed in OKLab, so that equal steps look equal. Entry STEPS is 0; the last one stands for what is not finite.
const STEPS = 256,
  ODD = 2 * STEPS + 1;
const STOPS = {
  light: ["#a8430a", "#d9803f", "#f0c09a", "#efeeeb", "#a5c8ea", "#4a8fd0", "#17579d"],
  dark: ["#ffa35e", "#cc6f2c", "#70452a", "#2a2c30", "#2b4d75", "#3f82cd", "#7fbcff"],
};

const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
const gamma = (x) => (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055);
const rgbOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);

function toLab(rgb) {
  const [r, g, b] = rgb.map(linear);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function fromLab([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3,
    m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((x) => Math.round(255 * Math.min(1, Math.max(0, gamma(x)))));
}

function makePalette(dark) {
  const stops = STOPS[dark ? "dark" : "light"].map((hex) => toLab(rgbOf(hex))),
    rgb = [],
    css = [],
    light = [];
  for (let i = 0; i <= 2 * STEPS; i++) {
    const at = (i / (2 * STEPS)) * (stops.length - 1),
      k = Math.min(Math.floor(at), stops.length - 2),
      f = at - k;
    rgb.push(fromLab(stops[k].map((x, c) => x + f * (stops[k + 1][c] - x))));
  }
  rgb.push(dark ? [255, 84, 190] : [200, 0, 130]);
  for (const c of rgb) {
    css.push(`rgb(${c.join(",")})`);
    const y = [0.2126, 0.7152, 0.0722].reduce((sum, w, k) => sum + w * linear(c[k] / 255), 0);
    light.push(y > 0.19); // dark text on it
  }
  const packed = Uint32Array.from(rgb, ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
  return {css, light, packed, rgb, dark};
}

function stepOf(value, limit) {
  if (!Number.isFinite(value)) return ODD;
  return STEPS + (limit > 0 ? Math.round(STEPS * Math.min(1, Math.max(-1, value / limit))) : 0);
}

// The palette's entry of every token under one estimator, at full resolution or pooled by the largest magnitude.
function stepsOf(group, credit, limit) {
  const table = Uint16Array.from(credit.table, (x) => stepOf(x, limit)),
    out = new Uint16Array(credit.codes.length);
  for (let i = 0; i < out.length; i++) out[i] = table[credit.codes[i]];
  return out;
}

const stronger = (a, b) => (b === ODD || (a !== ODD && Math.abs(b - STEPS) > Math.abs(a - STEPS)) ? b : a);

// A bitmap of the whole group, one row a response, `pool` tokens a pixel; the strongest of them gives the colour.
function makeBitmap(group, steps, palette, pool, uncounted) {
  const width = Math.max(1, Math.ceil(group.length / pool)),
    image = new ImageData(width, group.size);
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < group.size; row++) {
    for (let x = 0; x < width; x++) {
      let best = STEPS,
        counted = false,
        valid = false;
      for (let t = x * pool, end = Math.min(t + pool, group.length); t < end; t++) {
        const i = row * group.length + t,
          flags = group.flags[i];
        valid ||= (flags & VALID) !== 0;
        if (flags & COUNTED) {
          counted = true;
          best = stronger(best, steps[i]);
        }
      }
      pixels[row * width + x] = counted ? palette.packed[best] : valid ? uncounted : 0;
    }
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = group.size;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
