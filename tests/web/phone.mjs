// A person at the browser phone: `node phone.mjs URL`. What the app sees is checked by test_browser_phone.py.
//
// CHROMIUM is the browser, PACKAGES the folder with playwright-core, MICROPHONE a WAV of 1 kHz beeps. Prints one JSON
// object: what was on the console.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { CHROMIUM, MICROPHONE, PACKAGES } = process.env;
const { chromium } = createRequire(`${PACKAGES}/`)("playwright-core");
const url = process.argv[2];
const PATIENCE = { timeout: 60_000 };
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
  "--use-fake-device-for-media-stream", `--use-file-for-fake-audio-capture=${MICROPHONE}`,
];
const noise = []; // errors and warnings of every page

async function withPage(look, switches, act) {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: [...ARGUMENTS, ...switches] });
  try {
    const page = await browser.newPage(look);
    page.setDefaultTimeout(PATIENCE.timeout);
    page.on("pageerror", (error) => noise.push(`${error}`));
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && noise.push(message.text()));
    await page.goto(url);
    await act(page);
  } finally {
    await browser.close();
  }
}

/** Wait until the page's own analyser of `side` (said, heard) shows a tone of that many hertz above all others. */
async function waitForTone(page, side, hertz) {
  await page.waitForFunction(async ([side, hertz]) => {
    const { phone } = await import("/phone/main.mjs");
    const analyser = phone.audio?.[side];
    if (!analyser) return false;
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    const loudest = bins.indexOf(Math.max(...bins));
    const width = analyser.context.sampleRate / analyser.fftSize;
    return bins[loudest] > -50 && Math.abs(loudest * width - hertz) <= width;
  }, [side, hertz], PATIENCE);
}

const state = (page, text) => page.waitForFunction(
  (text) => document.querySelector("[role=status]").textContent === text, text, PATIENCE,
);
const told = (page, text) => page.getByRole("log").getByText(text, { exact: true }).last().waitFor();

async function callWithTheMicrophone(page) {
  await page.getByLabel("Remove echo and noise").uncheck(); // It would remove the tone.
  await page.getByLabel("Number or name").fill("+15550199");
  await page.keyboard.press("Enter");
  await state(page, "In call");
  await waitForTone(page, "said", 1000);
  await waitForTone(page, "heard", 1000);
  await told(page, "App told: audio flows");
  await page.getByRole("button", { name: "Hang up" }).focus();
  await page.keyboard.press("5");
  await page.getByRole("button", { name: "pound" }).click();
  await told(page, "Key pressed");
  assert.equal(await page.getByLabel("Keys pressed").textContent(), "5#");
  await page.getByRole("list", { name: "Latency of each reply" }).getByRole("listitem").first().waitFor();
  assert.match(await page.locator("#latest").textContent(), /^−?\d+ ms/);
  await page.getByRole("button", { name: "Hang up" }).click();
  await state(page, "You hung up");
  await told(page, "Call over");
  await page.getByText("Audio figures").click();
  await page.getByText("App's socket: received").waitFor();
}

async function callAgainWithTheTestTone(page) {
  await page.getByLabel("What you say").selectOption("Test tone");
  await page.getByLabel("Audio of the call").selectOption("16 kHz");
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await state(page, "In call");
  await waitForTone(page, "heard", 440);
  await page.getByRole("button", { name: "Mute" }).click();
  assert.equal(await page.getByRole("button", { name: "Mute" }).getAttribute("aria-pressed"), "true");
  await page.waitForFunction(async () => {
    const { phone } = await import("/phone/main.mjs");
    const samples = new Float32Array(phone.audio.heard.fftSize);
    phone.audio.heard.getFloatTimeDomainData(samples);
    return samples.every((sample) => Math.abs(sample) < 1e-3);
  }, null, PATIENCE);
  await page.getByRole("button", { name: "Hang up" }).click();
  await state(page, "You hung up");
}

async function callAnAppThatDoesNotWantTo(page) {
  await page.getByLabel("Number or name").fill("+15550166");
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await state(page, "The app rejected the call");
  assert.equal(await page.getByRole("button", { name: "Call", exact: true }).isEnabled(), true);
}

async function rememberTheNumber(page) {
  await page.reload();
  assert.equal(await page.getByLabel("Number or name").inputValue(), "+15550166");
  assert.equal(await page.getByLabel("What you say").inputValue(), "tone");
}

async function refuseTheMicrophone(page) {
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await page.getByRole("alert").getByText("may not use the microphone").waitFor();
  await state(page, "Not called");
  assert.ok((await page.evaluate(() => document.scrollingElement.scrollWidth)) <= 360);
}

await withPage({}, ["--use-fake-ui-for-media-stream"], async (page) => {
  await callWithTheMicrophone(page);
  await callAgainWithTheTestTone(page);
  await callAnAppThatDoesNotWantTo(page);
  await rememberTheNumber(page);
});
await withPage({ viewport: { width: 360, height: 740 }, colorScheme: "dark" }, [], refuseTheMicrophone);
console.log(JSON.stringify({ noise }));
