/** What ComfyUI serves to extensions as /scripts/app.js, in its own published types. */

import type { ComfyApp, ComfyExtension } from "@comfyorg/comfyui-frontend-types";

export const app: ComfyApp;

export type { ComfyApp, ComfyExtension };

// The package keeps these to itself; they are found where it uses them.
type NodeMenu = NonNullable<ComfyExtension["getNodeMenuItems"]>;
export type LGraphNode = Parameters<NodeMenu>[0];
export type MenuItem = NonNullable<ReturnType<NodeMenu>[number]>;
export type LGraph = NonNullable<LGraphNode["graph"]>;
export type Widget = NonNullable<LGraphNode["widgets"]>[number];
export type LGraphBadge = Exclude<LGraphNode["badges"][number], Function>;
export type Setting = NonNullable<ComfyExtension["settings"]>[number];

declare global {
  interface Window {
    LGraphBadge: new (options: ConstructorParameters<LGraphBadgeClass>[0]) => LGraphBadge;
  }
}

type LGraphBadgeClass = new (options: { text: string; fgColor?: string; bgColor?: string }) => LGraphBadge;
