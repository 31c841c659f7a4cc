// Numbers and times as people read them: a unit and at most three significant digits.

const digits = (value) => {
  if (value === 0) return "0";
  const places = Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))));
  const text = value.toFixed(places);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
};

export const formatValue = (value, unit) => {
  if (!Number.isFinite(value)) return "not a number";
  if (unit === "ratio") return `${digits(100 * value)} %`;
  if (unit === "seconds") {
    return Math.abs(value) < 1 ? `${digits(1000 * value)} ms` : `${digits(value)} s`;
  }
  return digits(value);
};

export const formatAge = (seconds) => {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
};
